%% Calls with Erlang's amqp_client, the one that RabbitMQ comes with: one process that keeps a number of calls in flight, with a timer
%% for each.
%%
%%     erl -noshell -pa . -run amqp_client_bench main -extra --url amqp://... --service bench
%%
%% Prints one line of JSON.
-module(amqp_client_bench).
-include_lib("amqp_client/include/amqp_client.hrl").

-export([main/0]).

-define(TIMEOUT, 30000).
%% So many replies are acknowledged by one acknowledgement.
-define(ACKNOWLEDGED, 16).

-record(client, {
    channel,
    service,
    mode,
    replies,
    body,
    ids,
    last_id = 0,
    taken = 0,
    pending = #{},
    %% Of the calls that ended while they are counted, in nanoseconds.
    times = [],
    errors = 0,
    is_counting = false,
    begun,
    cpu
}).

main() ->
    logger:set_primary_config(level, error),
    Options = options(init:get_plain_arguments(), #{}),
    Get = fun(Key, Default) -> maps:get(Key, Options, Default) end,
    Mode = Get("mode", "wire"),
    Inflight = list_to_integer(Get("inflight", "64")),
    Size = list_to_integer(Get("body", "64")),
    Warmup = number(Get("warmup", "1")),
    Seconds = number(Get("seconds", "3")),
    {ok, Parameters} = amqp_uri:parse(Get("url", "amqp://guest:guest@127.0.0.1:5672")),
    {ok, Connection} = amqp_connection:start(Parameters),
    {ok, Channel} = amqp_connection:open_channel(Connection),
    <<A:8/binary, B:4/binary, C:4/binary, D:4/binary, _/binary>> = Random = hexadecimal(crypto:strong_rand_bytes(14)),
    Client = #client{
        channel = Channel,
        service = list_to_binary(Get("service", "bench")),
        mode = Mode,
        %% An id is as long as a UUID; its last twelve digits count.
        ids = <<A/binary, "-", B/binary, "-", C/binary, "-", D/binary, "-">>,
        body = <<$", (binary:copy(<<"x">>, Size - 2))/binary, $">>
    },
    Ready = set_up(Client, Random),
    erlang:send_after(round(Warmup * 1000), self(), begin_counting),
    erlang:send_after(round((Warmup + Seconds) * 1000), self(), over),
    Counted = loop(lists:foldl(fun(_, State) -> call(State) end, Ready, lists:seq(1, Inflight))),
    print(Counted, Inflight, Size),
    amqp_connection:close(Connection),
    halt(0).

options(["--" ++ Key, Value | Rest], Options) -> options(Rest, Options#{Key => Value});
options([], Options) -> Options.

number(Text) ->
    try list_to_float(Text)
    catch error:badarg -> float(list_to_integer(Text))
    end.

hexadecimal(Bytes) -> << <<(integer_to_binary(N, 16))/binary>> || <<N:4>> <= Bytes >>.

%% Declares and consumes the reply queue.
set_up(#client{channel = Channel, mode = "echo"} = Client, _) ->
    #'queue.declare_ok'{queue = Queue} =
        amqp_channel:call(Channel, #'queue.declare'{exclusive = true, auto_delete = true}),
    consume(Client#client{replies = Queue}, true);
set_up(#client{channel = Channel, mode = "wire"} = Client, Random) ->
    #'exchange.declare_ok'{} =
        amqp_channel:call(Channel, #'exchange.declare'{exchange = <<"rpc">>, type = <<"headers">>, durable = true}),
    Queue = <<"erlang.replies.", Random/binary>>,
    #'queue.declare_ok'{} =
        amqp_channel:call(Channel, #'queue.declare'{
            queue = Queue, durable = true, auto_delete = true, arguments = [{<<"x-expires">>, signedint, 60000}]
        }),
    #'basic.qos_ok'{} = amqp_channel:call(Channel, #'basic.qos'{prefetch_count = 256}),
    #'confirm.select_ok'{} = amqp_channel:call(Channel, #'confirm.select'{}),
    ok = amqp_channel:register_confirm_handler(Channel, self()),
    ok = amqp_channel:register_return_handler(Channel, self()),
    consume(Client#client{replies = Queue}, false).

consume(#client{channel = Channel, replies = Queue} = Client, NoAck) ->
    #'basic.consume_ok'{} =
        amqp_channel:subscribe(Channel, #'basic.consume'{queue = Queue, no_ack = NoAck}, self()),
    Client.

loop(#client{pending = Pending, is_counting = IsCounting, errors = Errors} = Client) ->
    receive
        {#'basic.deliver'{delivery_tag = Tag}, #amqp_msg{props = Properties, payload = Body}} ->
            Acknowledged = acknowledge(Tag, Client),
            #'P_basic'{correlation_id = Id, headers = Headers} = Properties,
            case maps:take(Id, Pending) of
                {{Begun, Timer}, Rest} ->
                    erlang:cancel_timer(Timer, [{async, true}, {info, false}]),
                    IsRight = size(Body) =:= size(Client#client.body) andalso
                        (Headers =:= undefined orelse Headers =:= []),
                    loop(call(ended(Begun, IsRight, Acknowledged#client{pending = Rest})));
                error ->
                    loop(Acknowledged)
            end;
        #'basic.ack'{} ->
            loop(Client);
        #'basic.nack'{} ->
            loop(Client#client{errors = Errors + 1});
        {#'basic.return'{}, _} ->
            io:format(standard_error, "error: a request came back: nobody serves ~s~n", [Client#client.service]),
            halt(1);
        {timeout, _, Id} when is_map_key(Id, Pending) ->
            {{Begun, _}, Rest} = maps:take(Id, Pending),
            loop(call(ended(Begun, false, Client#client{pending = Rest})));
        {timeout, _, _} ->
            loop(Client);
        #'basic.consume_ok'{} ->
            loop(Client);
        begin_counting ->
            loop(Client#client{is_counting = true, errors = 0, begun = now_ns(), cpu = cpu_us()});
        over when IsCounting ->
            Client#client{begun = now_ns() - Client#client.begun, cpu = cpu_us() - Client#client.cpu}
    end.

acknowledge(Tag, #client{mode = "wire", taken = Taken, channel = Channel} = Client) when Taken + 1 >= ?ACKNOWLEDGED ->
    amqp_channel:cast(Channel, #'basic.ack'{delivery_tag = Tag, multiple = true}),
    Client#client{taken = 0};
acknowledge(_, #client{taken = Taken} = Client) ->
    Client#client{taken = Taken + 1}.

ended(_, _, #client{is_counting = false} = Client) -> Client;
ended(Begun, true, #client{times = Times} = Client) -> Client#client{times = [now_ns() - Begun | Times]};
ended(Begun, false, #client{errors = Errors} = Client) -> ended(Begun, true, Client#client{errors = Errors + 1}).

call(#client{channel = Channel, service = Service, last_id = Last, ids = Ids, pending = Pending} = Client) ->
    Digits = integer_to_binary(Last, 16),
    Id = <<Ids/binary, (binary:part(<<"000000000000">>, 0, 12 - size(Digits)))/binary, Digits/binary>>,
    {Method, Properties} =
        case Client#client.mode of
            "wire" -> {
                #'basic.publish'{exchange = <<"rpc">>, routing_key = <<>>, mandatory = true},
                #'P_basic'{
                    content_type = <<"application/json">>,
                    delivery_mode = 1,
                    correlation_id = Id,
                    message_id = Id,
                    reply_to = Client#client.replies,
                    expiration = integer_to_binary(?TIMEOUT),
                    headers = [
                        {<<"destination">>, longstr, Service},
                        {<<"procedure">>, longstr, <<"echo">>},
                        {<<"timeout-ms">>, long, ?TIMEOUT}
                    ]
                }
            };
            "echo" -> {
                #'basic.publish'{routing_key = <<Service/binary, ".rpcs">>},
                #'P_basic'{correlation_id = Id, reply_to = Client#client.replies}
            }
        end,
    Begun = now_ns(),
    Timer = erlang:start_timer(?TIMEOUT, self(), Id),
    ok = amqp_channel:cast(Channel, Method, #amqp_msg{props = Properties, payload = Client#client.body}),
    Client#client{last_id = Last + 1, pending = Pending#{Id => {Begun, Timer}}}.

now_ns() -> erlang:monotonic_time(nanosecond).

%% User and system time of all threads of this system process. statistics(runtime) leaves out the system's.
cpu_us() ->
    {ok, Text} = file:read_file("/proc/self/stat"),
    [_, Fields] = binary:split(Text, <<") ">>),
    Numbers = binary:split(Fields, <<" ">>, [global]),
    (binary_to_integer(lists:nth(12, Numbers)) + binary_to_integer(lists:nth(13, Numbers))) * 10000.

print(#client{times = []}, _, _) ->
    io:format(standard_error, "error: no call has ended~n", []),
    halt(1);
print(#client{mode = Mode, begun = Nanoseconds, cpu = Cpu, times = Times, errors = Errors}, Inflight, Size) ->
    Sorted = list_to_tuple(lists:sort(Times)),
    Calls = size(Sorted),
    At = fun(Part) -> element(1 + trunc(Part * (Calls - 1)), Sorted) / 1000 end,
    io:format(
        "{\"program\":\"erlang\",\"side\":\"client\",\"mode\":\"~s\",\"calls\":~b,\"inflight\":~b,\"body\":~b,"
        "\"seconds\":~.3f,\"rps\":~b,\"p50_us\":~.1f,\"p99_us\":~.1f,\"p999_us\":~.1f,\"cpu_us_per_call\":~.3f,"
        "\"errors\":~b}~n",
        [Mode, Calls, Inflight, Size, Nanoseconds / 1.0e9, round(Calls / (Nanoseconds / 1.0e9)), At(0.5), At(0.99), At(0.999),
         Cpu / Calls, Errors]
    ).
