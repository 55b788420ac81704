%% The oracle of the differential tests: runs scenarios on OTP's own supervisor.
%%
%% It says "ready", then reads one scenario a line from standard input, a term {Tree, Plans, Steps}, and writes what happened, a line "=" before
%% each step and a line "." at the end. It has to run with one scheduler (+S 1:1): signals then arrive in the order of their
%% causes, and a system in which every process waits with an empty mailbox is at rest.
%%
%%   Tree   {sup, Id, Restart, Shutdown, Significant, Strategy, Intensity, AutoShutdown, [Tree]}
%%          {child, Id, Restart, Shutdown, Significant, Kind}      Kind: actor, worker, polite, grumpy
%%   Plans  [{Path, [{ok | fail | ignore, [Meanwhile]}]}]          how the next starts of a child go, and what happens
%%                                                                 while its supervisor waits for them
%%   Steps  {plan, Path, [...]}, {'end', Path, How}, {stop, Path, How}, {admin, Path, Op}
%%
%% A process is named after its place and incarnations: "root#1/a#2" is the second start of a under the first root.
-module(supervisor_oracle).
-behaviour(supervisor).
-export([main/0, init/1, start_node/2, log/2]).

-define(HOUR, 3600).

main() ->
    ok = logger:remove_handler(default),
    ok = logger:add_handler(?MODULE, ?MODULE, #{level => error}),
    process_flag(trap_exit, true),
    io:put_chars("ready\n"),
    First = io:get_line(""),
    put(baseline, processes()),
    loop(First).

loop(eof) -> halt(0);
loop({error, _}) -> halt(1);
loop(Line) ->
    {ok, Tokens, _} = erl_scan:string(Line),
    {ok, Scenario} = erl_parse:parse_term(Tokens),
    io:put_chars([run(Scenario), ".\n"]),
    loop(io:get_line("")).

%% --- a scenario

run({Tree, Plans, Steps}) ->
    Recorder = spawn(fun() -> record(#{live => #{}, names => #{}, counts => #{}, plans => #{}, lines => [], results => []}) end),
    put(recorder, Recorder),
    [Recorder ! {plan, Path, Plan} || {Path, Plan} <- Plans],
    Boot = boot(Tree),
    Rest = steps(Boot, Steps),
    Left = processes() -- [self() | get(baseline)],
    [exit(Pid, kill) || Pid <- Left],
    flush_exits(),
    Rest.

boot(Tree) ->
    persistent_term_recorder(),
    case start_root(Tree) of
        {ok, Pid} -> result("boot", "ok"), {Pid, finish(Pid)};
        {error, Reason} -> result("boot", reason(Reason)), {none, finish(none)}
    end.

steps({none, Output}, _) -> Output;
steps({Root, Output}, []) ->
    case is_process_alive(Root) of
        true -> exit(Root, shutdown), [Output, finish(Root)];
        false -> Output
    end;
steps({Root, Output}, [Step | Steps]) ->
    case is_process_alive(Root) of
        true -> step(Root, Step), [Output, steps({Root, finish(Root)}, Steps)];
        false -> Output
    end.

step(_, {plan, Path, Plan}) -> recorder() ! {plan, Path, Plan};
step(_, {'end', Path, How}) ->
    case call({live, Path}) of
        {Pid, Kind} -> end_child(Pid, Kind, How);
        none -> ok
    end;
step(Root, {stop, Path, How}) ->
    case call({live, Path}) of
        {Root, sup} when How =:= shutdown -> exit(Root, shutdown);
        {Pid, sup} when How =:= kill -> exit(Pid, kill);
        %% From another process, because from its parent it counts. It is ignored.
        {Pid, sup} when How =:= normal -> spawn(fun() -> exit(Pid, normal) end);
        {Pid, sup} -> spawn(fun() -> catch gen_server:stop(Pid, exit_reason(How), infinity) end);
        _ -> ok
    end;
step(_, {admin, Path, Op}) ->
    case call({live, Path}) of
        {Pid, sup} -> request(Pid, Path, Op);
        _ -> ok
    end.

end_child(_, sup, _) -> ok;
end_child(_, actor, normal) -> ok;
end_child(_, grumpy, shutdown) -> ok;
end_child(_, grumpy, cause) -> ok;
end_child(Pid, _, kill) -> exit(Pid, kill);
end_child(Pid, _, How) -> Pid ! {do, exit_reason(How)}.

exit_reason(cause) -> {shutdown, cause};
exit_reason(Other) -> Other.

%% Sends a request to a supervisor and returns when it is in its mailbox; the answer is recorded when it comes.
request(Sup, Path, Op) ->
    Self = self(),
    Ref = make_ref(),
    spawn(fun() ->
        Tag = gen_server:send_request(Sup, message(Path, Op)),
        Self ! Ref,
        result(op_text(Path, Op), answer(gen_server:wait_response(Tag, infinity)))
    end),
    receive Ref -> ok end.

message(Path, {start_child, Node}) -> {start_child, spec(Node, Path)};
message(_, Op) -> Op.

op_text(Path, {start_child, Node}) -> [Path, " start_child ", element(2, Node)];
op_text(Path, {Op, Id}) -> [Path, " ", atom_to_list(Op), " ", Id].

answer({reply, ok}) -> "ok";
answer({reply, {ok, undefined}}) -> "ok undefined";
answer({reply, {ok, Pid}}) -> ["ok ", call({name, Pid})];
answer({reply, {error, {already_started, Pid}}}) when is_pid(Pid) -> "already_started";
answer({reply, {error, Atom}}) when Atom =:= not_found; Atom =:= running; Atom =:= restarting; Atom =:= already_present ->
    atom_to_list(Atom);
answer({reply, {error, {Reason, Spec}}}) when is_tuple(Spec), element(1, Spec) =:= child -> ["error ", reason(Reason)];
answer({reply, {error, Reason}}) -> ["error ", reason(Reason)];
answer({error, _}) -> "noproc".

%% --- the tree

start_root(Node) ->
    start_sup(Node, "", none).

spec(Node, ParentPath) ->
    #{id => element(2, Node), start => {?MODULE, start_node, [Node, ParentPath]}, restart => element(3, Node),
      shutdown => element(4, Node), significant => element(5, Node),
      type => case element(1, Node) of sup -> supervisor; child -> worker end}.

%% Runs in the supervisor's process.
start_node(Node, ParentPath) when element(1, Node) =:= sup -> start_sup(Node, ParentPath ++ "/", self());
start_node({child, Id, _, _, _, Kind}, ParentPath) ->
    Path = ParentPath ++ "/" ++ Id,
    {Name, {Outcome, Meanwhile}} = call({start, self(), Id, Path}),
    [meanwhile(ParentPath, Action) || Action <- Meanwhile],
    case Outcome of
        ok ->
            Parent = self(),
            Pid = spawn_link(fun() ->
                process_flag(trap_exit, Kind =:= polite orelse Kind =:= grumpy),
                ok = call({up, Name, Path, self(), Kind}),
                Parent ! {ready, self()},
                child(Parent, Kind)
            end),
            receive {ready, Pid} -> {ok, Pid} end;
        fail -> {error, fail};
        ignore -> ignore
    end.

start_sup({sup, Id, _, _, _, _, _, _, _} = Node, Prefix, Parent) ->
    supervisor:start_link(?MODULE, {Node, Prefix ++ Id, Parent}).

init({{sup, Id, _, _, _, Strategy, Intensity, AutoShutdown, Children}, Path, Parent}) ->
    Name = call({start_sup, Parent, Id}),
    ok = call({up, Name, Path, self(), sup}),
    Flags = #{strategy => Strategy, intensity => Intensity, period => ?HOUR, auto_shutdown => AutoShutdown},
    {ok, {Flags, [spec(Child, Path) || Child <- Children]}}.

child(Parent, Kind) ->
    receive
        {do, Reason} -> exit(Reason);
        {'EXIT', Parent, _} when Kind =:= grumpy -> exit(crash);
        {'EXIT', Parent, Reason} -> exit(Reason);
        _ -> child(Parent, Kind)
    end.

meanwhile(Path, {admin, Op}) -> request(self(), Path, Op);
meanwhile(Path, {'end', Id, How}) ->
    case call({live, Path ++ "/" ++ Id}) of
        {Pid, actor} ->
            Ref = monitor(process, Pid),
            end_child(Pid, actor, How),
            receive {'DOWN', Ref, process, Pid, _} -> ok end;
        _ -> ok
    end.

%% --- the recorder

%% The node runs one scenario at a time, so that every process finds its recorder under one name.
persistent_term_recorder() ->
    catch unregister(recorder),
    register(recorder, get(recorder)).

recorder() -> whereis(recorder).

call(Request) ->
    Ref = monitor(process, recorder),
    recorder ! {call, self(), Ref, Request},
    receive
        {Ref, Reply} -> demonitor(Ref, [flush]), Reply;
        {'DOWN', Ref, process, _, Reason} -> exit(Reason)
    end.

result(What, Result) -> recorder ! {result, [What, ": ", Result]}.

record(State) ->
    receive
        {plan, Path, Plan} ->
            #{plans := Plans} = State,
            record(State#{plans := Plans#{Path => maps:get(Path, Plans, []) ++ Plan}});
        {call, From, Ref, Request} ->
            {Reply, Next} = answer_call(Request, State),
            From ! {Ref, Reply},
            record(Next);
        {result, Line} ->
            #{results := Results} = State,
            record(State#{results := [lists:flatten(Line) | Results]});
        {report, Sup, Context, Reason, Id} ->
            #{names := Names} = State,
            case Names of
                #{Sup := {_, Path}} -> record(line(["report ", Context, " ", Path, "/", Id, Reason], State));
                _ -> record(State)
            end;
        {'DOWN', _, process, Pid, Reason} ->
            #{names := Names, live := Live} = State,
            #{Pid := {Name, Path}} = Names,
            Now = case Live of #{Path := {Pid, _}} -> maps:remove(Path, Live); _ -> Live end,
            record(line(["stop ", Name, " ", reason(Reason)], State#{live := Now}))
    end.

line(Line, #{lines := Lines} = State) -> State#{lines := [lists:flatten(Line) | Lines]}.

answer_call({start_sup, Parent, Id}, State) -> next_name(Parent, Id, State);
answer_call({start, Parent, Id, Path}, State) ->
    {Name, #{plans := Plans} = Next} = next_name(Parent, Id, State),
    {Plan, Left} = case maps:get(Path, Plans, []) of [] -> {{ok, []}, []}; [First | Rest] -> {First, Rest} end,
    {{Name, Plan}, Next#{plans := Plans#{Path => Left}}};
answer_call({up, Name, Path, Pid, Kind}, #{names := Names, live := Live} = State) ->
    monitor(process, Pid),
    {ok, State#{names := Names#{Pid => {Name, Path}}, live := Live#{Path => {Pid, Kind}}}};
answer_call({live, Path}, #{live := Live} = State) -> {maps:get(Path, Live, none), State};
answer_call({name, Pid}, #{names := Names} = State) -> {element(1, maps:get(Pid, Names, {"?", "?"})), State};
answer_call(take, #{lines := Lines, results := Results} = State) ->
    {lists:reverse(Lines) ++ ["result " ++ Line || Line <- lists:sort(Results)], State#{lines := [], results := []}}.

next_name(Parent, Id, #{names := Names, counts := Counts} = State) ->
    Prefix = case Names of #{Parent := {ParentName, _}} -> ParentName ++ "/"; _ -> "" end,
    Count = maps:get(Prefix ++ Id, Counts, 0) + 1,
    Name = Prefix ++ Id ++ "#" ++ integer_to_list(Count),
    {Name, line(["start ", Name], State#{counts := Counts#{Prefix ++ Id => Count}})}.

%% --- at rest

%% Waits for rest, and returns the step's lines and what the supervisors say.
finish(Root) ->
    rest(),
    Lines = call(take),
    ["=\n", [[Line, "\n"] || Line <- Lines], states(Root)].

rest() ->
    erlang:yield(),
    First = census(),
    erlang:yield(),
    case First =/= busy andalso census() =:= First of
        true -> ok;
        false -> rest()
    end.

%% Who is there and how much it has done, or busy. Two that are equal: nobody did anything between them.
%% The system's own processes are among them: code is loaded by one, while others wait for it.
%% Except the process that reads the standard input: since OTP 27 the next scenarios wait in its mailbox.
census() -> census(processes() -- [self(), whereis(user)], []).

census([], Idle) -> Idle;
census([Pid | Pids], Idle) ->
    case process_info(Pid, [status, message_queue_len, reductions]) of
        [{status, waiting}, {message_queue_len, 0}, {reductions, Work}] -> census(Pids, [{Pid, Work} | Idle]);
        _ -> busy
    end.

states(none) -> [];
states(Sup) ->
    case is_process_alive(Sup) of
        false -> [];
        true ->
            Children = supervisor:which_children(Sup),
            [{specs, Specs}, {active, Active}, {supervisors, Supervisors}, {workers, Workers}] =
                supervisor:count_children(Sup),
            Own = ["state ", call({name, Sup}), [[" ", Id, "=", process_text(Pid)] || {Id, Pid, _, _} <- Children],
                   io_lib:format(" counts ~p ~p ~p ~p\n", [Specs, Active, Supervisors, Workers])],
            [Own, [states(Pid) || {_, Pid, supervisor, _} <- lists:reverse(Children), is_pid(Pid)]]
    end.

process_text(Pid) when is_pid(Pid) -> call({name, Pid});
process_text(Atom) -> atom_to_list(Atom).

flush_exits() ->
    receive {'EXIT', _, _} -> flush_exits() after 0 -> ok end.

%% --- reports

%% A logger handler: it is called in the process that reports.
log(#{msg := {report, #{label := {supervisor, Context}, report := Report}}}, _) ->
    {supervisor, Name} = lists:keyfind(supervisor, 1, Report),
    {reason, Reason} = lists:keyfind(reason, 1, Report),
    {offender, Offender} = lists:keyfind(offender, 1, Report),
    {Sup, _} = Name,
    {id, Id} = lists:keyfind(id, 1, Offender),
    Text = case Context of shutdown -> ""; _ -> [" ", reason(Reason)] end,
    catch recorder ! {report, Sup, atom_to_list(Context), Text, Id},
    ok;
log(_, _) -> ok.

reason({shutdown, {failed_to_start_child, Id, Reason}}) -> ["shutdown(failed ", Id, ": ", reason(Reason), ")"];
reason({shutdown, Cause}) -> ["shutdown(", reason(Cause), ")"];
reason(Atom) when is_atom(Atom) -> atom_to_list(Atom);
reason(Other) -> io_lib:format("~0p", [Other]).
