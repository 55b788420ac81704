/// The Erlang module that answers requests inside the broker.
///
/// The node itself compiles and loads it (the compiler is a dependency of RabbitMQ), and it communicates over descriptor 3, so it needs no
/// Erlang distribution: no cookie, no epmd, no second port. Requests and answers are JSON objects, each preceded by its length in four
/// bytes. Every request runs in its own Erlang process. When descriptor 3 is closed, the owner has ended, and the node halts.
enum ControlScript {
    static let module = "local_broker_control"

    /// The expression that the node evaluates before RabbitMQ boots.
    static func start(sourceFolder: String) -> String {
        """
        {ok, M, B} = compile:file("\(sourceFolder)/\(module)", [binary]), {module, M} = code:load_binary(M, "\(module)", B), M:start().
        """
    }

    /// The expression that it evaluates when RabbitMQ has booted.
    static let ready = "\(module):ready()."

    static let source = #"""
        -module(local_broker_control).
        -export([start/0, ready/0]).

        -define(ACTOR, <<"local-broker">>).

        start() ->
            Starter = self(),
            spawn(fun() ->
                true = register(?MODULE, self()),
                Port = open_port({fd, 3, 3}, [{packet, 4}, binary, eof]),
                Starter ! {?MODULE, started},
                loop(Port)
            end),
            receive {?MODULE, started} -> ok end,
            catch preload([rabbit]).

        %% RabbitMQ starts an epmd when it finds none, once a minute; we want none.
        ready() ->
            supervisor:terminate_child(rabbit_sup, rabbit_epmd_monitor_sup),
            ?MODULE ! ready.

        %% Loads all the code of these applications and of those they need. RabbitMQ would do that while it boots, one
        %% module after the other, each searched in a hundred folders: that is half of the time it takes to boot. A
        %% module that cannot be loaded here is left for it to load.
        preload(Applications) ->
            Loaders = [spawn_monitor(fun() -> catch load_application(A) end)
                       || A <- needed(Applications, []), not lists:member(A, [kernel, stdlib])],
            [receive {'DOWN', Monitor, process, _, _} -> ok end || {_, Monitor} <- Loaders].

        needed([], Found) ->
            Found;
        needed([Application | Others], Found) ->
            case lists:member(Application, Found) orelse code:lib_dir(Application) of
                Folder when is_list(Folder) ->
                    File = filename:join([Folder, "ebin", atom_to_list(Application) ++ ".app"]),
                    {ok, [{application, Application, Properties}]} = file:consult(File),
                    Its = proplists:get_value(applications, Properties, [])
                        ++ proplists:get_value(included_applications, Properties, []),
                    needed(Its ++ Others, [Application | Found]);
                _ ->
                    needed(Others, Found)
            end.

        load_application(Application) ->
            Folder = filename:join(code:lib_dir(Application), "ebin"),
            {ok, Names} = file:list_dir(Folder),
            Modules = [{list_to_atom(filename:basename(Name, ".beam")), filename:join(Folder, Name)}
                       || Name <- Names, filename:extension(Name) =:= ".beam"],
            %% These have code that runs when they are loaded, which atomic_load/1 refuses.
            Refused = [asn1rt_nif, pubkey_os_cacerts, rabbit_feature_flags],
            load([{Module, File, Code} || {Module, File} <- Modules, not erlang:module_loaded(Module),
                                          not lists:member(Module, Refused), {ok, Code} <- [file:read_file(File)]]).

        load(Modules) ->
            case code:atomic_load(Modules) of
                ok -> ok;
                {error, Refused} -> load([M || M <- Modules, not lists:keymember(element(1, M), 1, Refused)])
            end.

        loop(Port) ->
            receive
                {Port, {data, Request}} ->
                    spawn(fun() -> answer(Port, Request) end),
                    loop(Port);
                ready ->
                    Ready = #{<<"event">> => <<"ready">>, <<"version">> => text(rabbit_misc:version()),
                              <<"erlang">> => text(erlang:system_info(otp_release))},
                    port_command(Port, rabbit_json:encode(Ready)),
                    loop(Port);
                {Port, eof} ->
                    erlang:halt(0, [{flush, false}])
            end.

        answer(Port, Bytes) ->
            #{<<"id">> := Id, <<"command">> := Command} = Request = rabbit_json:decode(Bytes),
            Answer =
                try #{<<"id">> => Id, <<"result">> => run(Command, Request)}
                catch
                    throw:Text when is_binary(Text) ->
                        #{<<"id">> => Id, <<"error">> => Text};
                    _:Reason ->
                        #{<<"id">> => Id, <<"error">> => text(Reason)}
                end,
            port_command(Port, rabbit_json:encode(Answer)).

        run(<<"ping">>, _) ->
            true;
        run(<<"create-virtual-host">>, #{<<"name">> := Name}) ->
            rabbit_vhost:exists(Name) andalso throw(<<"it exists">>),
            done(rabbit_vhost:add(Name, ?ACTOR)),
            All = <<".*">>,
            done(rabbit_auth_backend_internal:set_permissions(<<"guest">>, Name, All, All, All, ?ACTOR));
        run(<<"delete-virtual-host">>, #{<<"name">> := Name}) ->
            rabbit_vhost:exists(Name) orelse throw(<<"there is none of that name">>),
            done(rabbit_vhost:delete(Name, ?ACTOR));
        run(<<"create-user">>, #{<<"name">> := Name, <<"password">> := Password, <<"virtual-host">> := VHost}) ->
            _ = exists(VHost),
            done(rabbit_auth_backend_internal:add_user(Name, Password, ?ACTOR));
        run(<<"set-permissions">>, #{<<"name">> := Name, <<"virtual-host">> := VHost, <<"configure">> := Configure,
                                     <<"write">> := Write, <<"read">> := Read}) ->
            done(rabbit_auth_backend_internal:set_permissions(Name, exists(VHost), Configure, Write, Read, ?ACTOR));
        run(<<"virtual-hosts">>, _) ->
            rabbit_vhost:list_names();
        run(<<"queues">>, #{<<"virtual-host">> := VHost}) ->
            Items = [name, messages, messages_ready, messages_unacknowledged, consumers, durable, auto_delete,
                     exclusive, arguments, state],
            [#{<<"name">> => name(get(name, I)),
               <<"messages">> => number(get(messages, I)),
               <<"ready">> => number(get(messages_ready, I)),
               <<"unacknowledged">> => number(get(messages_unacknowledged, I)),
               <<"consumers">> => number(get(consumers, I)),
               <<"durable">> => get(durable, I),
               <<"autoDelete">> => get(auto_delete, I),
               <<"exclusive">> => get(exclusive, I) =:= true,
               <<"arguments">> => table(get(arguments, I)),
               <<"state">> => text(get(state, I))}
             || I <- rabbit_amqqueue:info_all(exists(VHost), Items)];
        %% The messages of a classic queue are numbered. RabbitMQ 3.10 to 4.2 keep the number of the first that has not been delivered, and
        %% mark as redelivered what is before it. In an empty queue it is the next one to be given, or it never grows again.
        run(<<"queues-without-marks">>, #{<<"virtual-host">> := VHost}) ->
            [name(get(name, I)) || I <- rabbit_amqqueue:info_all(exists(VHost), [name, messages, backing_queue_status]),
                                   get(messages, I) =:= 0,
                                   Status <- [get(backing_queue_status, I)], is_list(Status),
                                   Undelivered <- [get(next_deliver_seq_id, Status)], is_integer(Undelivered),
                                   Undelivered < get(next_seq_id, Status)];
        run(<<"declare-queue">>, #{<<"virtual-host">> := VHost, <<"name">> := Name, <<"durable">> := Durable}) ->
            Queue = rabbit_misc:r(exists(VHost), queue, Name),
            case rabbit_amqqueue:declare(Queue, Durable, false, [], none, ?ACTOR) of
                %% On disk when it is answered, whatever becomes of the node.
                {new, _} -> catch mnesia:sync_log(), true;
                {existing, _} -> true;
                Other -> done(Other)
            end;
        run(<<"delete-queue">>, #{<<"virtual-host">> := VHost, <<"name">> := Name}) ->
            Delete = fun(Queue) -> rabbit_amqqueue:delete(Queue, false, false, ?ACTOR) end,
            case rabbit_amqqueue:with(rabbit_misc:r(VHost, queue, Name), Delete) of
                {ok, _} -> true;
                {error, not_found} -> throw(<<"there is none of that name">>);
                Other -> done(Other)
            end;
        run(<<"consumers">>, #{<<"virtual-host">> := VHost}) ->
            Channels = maps:from_list([{get(pid, C), C} || C <- channels([pid, name, number])]),
            [begin
                 Channel = maps:get(get(channel_pid, I), Channels, []),
                 #{<<"queue">> => name(get(queue_name, I)),
                   <<"tag">> => text(get(consumer_tag, I)),
                   <<"acknowledges">> => get(ack_required, I),
                   <<"prefetch">> => number(get(prefetch_count, I)),
                   <<"active">> => get(active, I) =/= false,
                   <<"arguments">> => table(get(arguments, I)),
                   <<"connection">> => connection_name(Channel),
                   <<"channel">> => number(get(number, Channel))}
             end || I <- rabbit_amqqueue:consumers_all(exists(VHost))];
        run(<<"connections">>, _) ->
            Items = [name, vhost, state, channels, peer_port, timeout, client_properties],
            [#{<<"name">> => text(get(name, I)),
               <<"clientName">> => maps:get(<<"connection_name">>, table(get(client_properties, I)), <<>>),
               <<"virtualHost">> => text(get(vhost, I)),
               <<"state">> => text(get(state, I)),
               <<"channels">> => number(get(channels, I)),
               <<"peerPort">> => number(get(peer_port, I)),
               <<"heartbeat">> => number(get(timeout, I)),
               <<"clientProperties">> => table(get(client_properties, I))}
             || I <- connections(Items)];
        run(<<"channels">>, _) ->
            Items = [name, number, vhost, consumer_count, messages_unacknowledged, messages_unconfirmed,
                     prefetch_count, confirm],
            [#{<<"connection">> => connection_name(I),
               <<"number">> => number(get(number, I)),
               <<"virtualHost">> => text(get(vhost, I)),
               <<"consumers">> => number(get(consumer_count, I)),
               <<"unacknowledged">> => number(get(messages_unacknowledged, I)),
               <<"unconfirmed">> => number(get(messages_unconfirmed, I)),
               <<"prefetch">> => number(get(prefetch_count, I)),
               <<"confirms">> => get(confirm, I) =:= true}
             || I <- channels(Items)];
        run(<<"exchanges">>, #{<<"virtual-host">> := VHost}) ->
            [#{<<"name">> => name(get(name, I)),
               <<"type">> => text(get(type, I)),
               <<"durable">> => get(durable, I),
               <<"autoDelete">> => get(auto_delete, I),
               <<"internal">> => get(internal, I),
               <<"arguments">> => table(get(arguments, I))}
             || I <- rabbit_exchange:info_all(exists(VHost), [name, type, durable, auto_delete, internal, arguments])];
        run(<<"bindings">>, #{<<"virtual-host">> := VHost}) ->
            Items = [source_name, destination_name, destination_kind, routing_key, arguments],
            [#{<<"source">> => text(get(source_name, I)),
               <<"destination">> => text(get(destination_name, I)),
               <<"destinationKind">> => text(get(destination_kind, I)),
               <<"routingKey">> => text(get(routing_key, I)),
               <<"arguments">> => table(get(arguments, I))}
             || I <- rabbit_binding:info_all(exists(VHost), Items)];
        run(<<"running-nodes">>, _) ->
            Nodes = case erlang:function_exported(rabbit_nodes, list_running, 0) of
                        true -> rabbit_nodes:list_running();
                        false -> rabbit_nodes:all_running()
                    end,
            [text(N) || N <- Nodes];
        run(<<"queue-place">>, #{<<"virtual-host">> := VHost, <<"name">> := Name}) ->
            Resource = rabbit_misc:r(exists(VHost), queue, Name),
            case rabbit_amqqueue:lookup(Resource) of
                {ok, Queue} -> [place(Queue, amqqueue:get_pid(Queue))];
                %% A durable one whose node is down.
                {error, not_found} -> [place(Queue, amqqueue:get_pid(Queue)) || Queue <- durable(Resource)]
            end;
        run(<<"move-leader">>, #{<<"virtual-host">> := VHost, <<"name">> := Name, <<"node">> := Node}) ->
            case rabbit_amqqueue:lookup(rabbit_misc:r(exists(VHost), queue, Name)) of
                {ok, Queue} ->
                    case rabbit_quorum_queue:transfer_leadership(Queue, binary_to_atom(Node, utf8)) of
                        {migrated, _} -> true;
                        {not_migrated, already_leader} -> true;
                        {not_migrated, Reason} -> throw(text(Reason))
                    end;
                {error, not_found} -> throw(<<"there is no such queue">>)
            end;
        run(<<"close-connection">>, #{<<"name">> := Name, <<"reason">> := Reason}) ->
            done(rabbit_networking:close_connection(connection(Name), Reason));
        run(<<"drop-connection">>, #{<<"name">> := Name}) ->
            exit(connection(Name), kill);
        run(<<"close-channel">>, #{<<"connection">> := Connection, <<"number">> := Number}) ->
            Found = [get(pid, I) || I <- rabbit_channel:info_all([pid, name, number]),
                                    connection_name(I) =:= Connection, get(number, I) =:= Number],
            case Found of
                %% An acknowledgement, as if the client had sent it, of what it never got.
                [Pid | _] -> done(rabbit_channel_common:do(Pid, {'basic.ack', 1 bsl 60, false}));
                [] -> throw(<<"there is no such channel">>)
            end;
        run(<<"memory-alarm">>, #{<<"set">> := true}) ->
            rabbit_alarm:set_alarm({{resource_limit, memory, node()}, []}),
            is_list(rabbit_alarm:get_alarms());
        run(<<"memory-alarm">>, #{<<"set">> := false}) ->
            rabbit_alarm:clear_alarm({resource_limit, memory, node()}),
            is_list(rabbit_alarm:get_alarms());
        run(<<"limit-virtual-host">>, #{<<"name">> := VHost, <<"limit">> := Limit, <<"value">> := Value}) ->
            %% A negative value is no limit.
            done(rabbit_vhost_limit:set(exists(VHost), [{Limit, Value}], ?ACTOR));
        run(<<"limit-user">>, #{<<"name">> := User, <<"limit">> := Limit, <<"value">> := Value}) ->
            Limits = iolist_to_binary(rabbit_json:encode(#{Limit => Value})),
            done(rabbit_auth_backend_internal:set_user_limits(User, Limits, ?ACTOR));
        run(<<"maintenance">>, #{<<"set">> := true}) ->
            done(rabbit_maintenance:drain());
        run(<<"maintenance">>, #{<<"set">> := false}) ->
            done(rabbit_maintenance:revive());
        run(_, _) ->
            throw(<<"no such command, or an argument is missing">>).

        %% With Khepri there is no such table, and lookup/1 has found what there is.
        durable(Resource) ->
            try mnesia:dirty_read(rabbit_durable_queue, Resource)
            catch exit:{aborted, {no_exists, _}} -> []
            end.

        place(_, Pid) when is_pid(Pid) ->
            Home = node(Pid),
            #{<<"leader">> => text(Home), <<"members">> => [text(Home)],
              <<"online">> => [text(Home) || lists:member(Home, [node() | nodes()])]};
        %% Replicas that elect a leader.
        place(Queue, _) ->
            Members = case amqqueue:get_type_state(Queue) of
                          #{nodes := Nodes} when is_list(Nodes) -> Nodes;
                          %% Since RabbitMQ 4.2, with the identity of each replica.
                          #{nodes := Nodes} -> maps:keys(Nodes)
                      end,
            Info = rabbit_amqqueue:info(Queue, [leader, online]),
            Leader = case get(leader, Info) of
                         Node when is_atom(Node), Node =/= '', Node =/= undefined -> text(Node);
                         _ -> null
                     end,
            #{<<"leader">> => Leader, <<"members">> => [text(M) || M <- Members],
              <<"online">> => [text(M) || M <- get(online, Info)]}.

        done(ok) -> true;
        done({ok, _}) -> true;
        done({error, Reason}) -> throw(text(Reason));
        done(Other) -> throw(text(Other)).

        exists(VHost) ->
            rabbit_vhost:exists(VHost) orelse throw(<<"there is no such virtual host">>),
            VHost.

        %% One that ends while it is asked is left out.
        connections(Items) ->
            lists:append([try [rabbit_networking:connection_info(Pid, Items)] catch _:_ -> [] end
                          || Pid <- rabbit_networking:connections()]).

        channels(Items) ->
            lists:append([try [rabbit_channel:info(Pid, Items)] catch _:_ -> [] end || Pid <- rabbit_channel:list()]).

        connection(Name) ->
            Found = [get(pid, I) || I <- connections([pid, name]), text(get(name, I)) =:= Name],
            case Found of
                [Pid | _] -> Pid;
                [] -> throw(<<"there is no such connection">>)
            end.

        %% A channel is called "127.0.0.1:51234 -> 127.0.0.1:5672 (1)".
        connection_name(Channel) ->
            hd(binary:split(text(get(name, Channel)), <<" (">>)).

        get(Key, Items) -> proplists:get_value(Key, Items).

        name({resource, _, _, Name}) -> Name;
        name(Name) -> text(Name).

        number(Number) when is_number(Number) -> Number;
        number(_) -> 0.

        %% An AMQP field table as a JSON object, whatever is in it.
        table(Table) when is_list(Table) ->
            maps:from_list([field(Field) || Field <- Table]);
        table(_) ->
            #{}.

        field({Key, Type, Value}) -> {text(Key), value(Type, Value)};
        field({Key, Value}) -> {text(Key), value(undefined, Value)}.

        value(table, Table) -> table(Table);
        value(array, Values) -> [value(Type, Value) || {Type, Value} <- Values];
        value(_, undefined) -> null;
        value(_, Value) when is_boolean(Value); is_number(Value) -> Value;
        value(_, Value) -> text(Value).

        text(undefined) -> <<>>;
        text('') -> <<>>;
        text(Value) when is_atom(Value) -> atom_to_binary(Value, utf8);
        text(Value) when is_binary(Value) ->
            case unicode:characters_to_binary(Value) of
                Text when is_binary(Text) -> Text;
                _ -> unicode:characters_to_binary(io_lib:format("~p", [Value]))
            end;
        text(Value) ->
            case io_lib:printable_unicode_list(Value) of
                true -> unicode:characters_to_binary(Value);
                false -> unicode:characters_to_binary(io_lib:format("~tp", [Value]))
            end.
        """#
}
