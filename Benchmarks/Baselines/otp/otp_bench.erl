%% The cases of supervision-bench on OTP's own supervisor: the same work, measured by the same rules.
%%
%%     erlc otp_bench.erl otp_bench_worker.erl
%%     erl +P 4194304 -noshell -pa . -run otp_bench main CASE CHILDREN
%%
%% Prints one line of JSON. The modules of OTP are used as they are; reports are switched off, as the other side logs nothing.
-module(otp_bench).
-behaviour(supervisor).

-export([main/1]).
-export([start_node/3, init/1]).

main([Case, Children]) ->
    logger:set_primary_config(level, none),
    process_flag(trap_exit, true),
    run(Case, list_to_integer(Children)),
    halt(0).

%% --- Cases -----------------------------------------------------------------------------------------------------------

%% From the kill of a child until the bench has heard from the next one. A supervisor keeps the times of its restarts in a list that
%% it walks at each: so a fresh one after every 20, and 20 a period is what a real tree sees at most.
run("restart", Children) ->
    Times = lists:append([restarts(Children) || _ <- lists:seq(1, 100)]),
    Sorted = lists:sort(Times),
    print("restart", Children, [{value, percentile(Sorted, 0.5) / 1000}, {p99, percentile(Sorted, 0.99) / 1000}], us);
run("kill-all", Children) ->
    Sup = start(one_for_one, Children),
    Pids = [Pid || {_, Pid, _, _} <- supervisor:which_children(Sup)],
    Begin = now_ns(),
    [exit(Pid, kill) || Pid <- Pids],
    await(Children),
    Time = now_ns() - Begin,
    print("kill-all", Children, [{value, Children / (Time / 1.0e9)}], per_s);
run("start", Children) ->
    Sup = start_simple(),
    Begin = now_ns(),
    start_children(Sup, Children),
    Time = now_ns() - Begin,
    print("start", Children, [{value, Children / (Time / 1.0e9)}], per_s);
run("memory", Children) ->
    Sup = start_simple(),
    %% What the system takes for the first of anything is not counted.
    start_children(Sup, 1000),
    timer:sleep(200),
    {Before, Resident} = {erlang:memory(total), resident()},
    start_children(Sup, Children),
    timer:sleep(200),
    {After, ResidentAfter} = {erlang:memory(total), resident()},
    print("memory", Children,
          [{value, (ResidentAfter - Resident) / Children}, {allocated, (After - Before) / Children}], bytes);
run("stop", Children) ->
    Sup = start_simple(),
    start_children(Sup, Children),
    timer:sleep(200),
    Time = stop(Sup),
    print("stop", Children, [{value, Time / 1.0e6}], ms);
%% A tree in which each supervisor has four children, workers at the bottom: 21,845 nodes at depth 7.
run("tree", Depth) ->
    {Nodes, Workers} = count(Depth),
    Begin = now_ns(),
    {ok, Sup} = supervisor:start_link(?MODULE, {node, self(), Depth, one_for_all}),
    await(Workers),
    Start = now_ns() - Begin,
    [{_, First, _, _} | _] = supervisor:which_children(Sup),
    timer:sleep(200),
    BeginRebuild = now_ns(),
    exit(First, kill),
    await(Workers),
    Rebuild = now_ns() - BeginRebuild,
    timer:sleep(200),
    Stop = stop(Sup),
    print("tree", Nodes, [{start, Start / 1.0e6}, {stop, Stop / 1.0e6}, {rebuild, Rebuild / 1.0e6}], ms);
%% An ordinary supervisor with so many children: what each operation costs against their number.
run("scale", Children) ->
    Before = resident(),
    Begin = now_ns(),
    Sup = start(one_for_one, Children),
    Start = now_ns() - Begin,
    Memory = (resident() - Before) / Children,
    timer:sleep(200),
    [{_, Pid, _, _} | _] = supervisor:which_children(Sup),
    Times = lists:sort(kill_again(Pid, 20, [])),
    Stop = stop(Sup),
    print("scale", Children,
          [{start_us, Start / 1000 / Children}, {restart_us, percentile(Times, 0.5) / 1000},
           {stop_us, Stop / 1000 / Children}, {memory, Memory}], mixed).

restarts(Children) ->
    Sup = start(one_for_one, Children),
    [{_, Pid, _, _} | _] = supervisor:which_children(Sup),
    Times = kill_again(Pid, 20, []),
    stop(Sup),
    Times.

kill_again(_, 0, Times) ->
    Times;
kill_again(Pid, Left, Times) ->
    Begin = now_ns(),
    exit(Pid, kill),
    receive
        {up, Next} ->
            Time = now_ns() - Begin,
            kill_again(Next, Left - 1, [Time | Times])
    end.

%% --- Trees -----------------------------------------------------------------------------------------------------------

start(Strategy, Children) ->
    {ok, Sup} = supervisor:start_link(?MODULE, {flat, self(), Strategy, Children}),
    await(Children),
    Sup.

start_simple() ->
    {ok, Sup} = supervisor:start_link(?MODULE, simple),
    Sup.

start_children(_, 0) ->
    ok;
start_children(Sup, Left) ->
    {ok, _} = supervisor:start_child(Sup, []),
    start_children(Sup, Left - 1).

stop(Sup) ->
    Monitor = monitor(process, Sup),
    Begin = now_ns(),
    exit(Sup, shutdown),
    receive {'DOWN', Monitor, process, Sup, _} -> ok end,
    Time = now_ns() - Begin,
    receive {'EXIT', Sup, _} -> ok end,
    Time.

%% Waits until so many workers have said that they are up.
await(0) -> ok;
await(Left) -> receive {up, _} -> await(Left - 1) end.

count(0) ->
    {1, 1};
count(Depth) ->
    {Nodes, Workers} = count(Depth - 1),
    {1 + 4 * Nodes, 4 * Workers}.

start_node(Bench, Depth, Strategy) -> supervisor:start_link(?MODULE, {node, Bench, Depth, Strategy}).

init({flat, Bench, Strategy, Children}) ->
    {ok, {flags(Strategy), [worker(N, Bench) || N <- lists:seq(1, Children)]}};
init(simple) ->
    %% They tell nobody that they are up: a hundred thousand messages would be the bench's cost, not the supervisor's.
    {ok, {flags(simple_one_for_one), [worker(child, nobody)]}};
init({node, Bench, 1, Strategy}) ->
    {ok, {flags(Strategy), [worker(N, Bench) || N <- lists:seq(1, 4)]}};
init({node, Bench, Depth, Strategy}) ->
    {ok, {flags(Strategy),
          [#{id => N, start => {?MODULE, start_node, [Bench, Depth - 1, one_for_one]}, type => supervisor}
           || N <- lists:seq(1, 4)]}}.

flags(Strategy) -> #{strategy => Strategy, intensity => 10000000, period => 1}.
worker(Id, Bench) -> #{id => Id, start => {otp_bench_worker, start_link, [Bench]}}.

%% --- Measuring -------------------------------------------------------------------------------------------------------

now_ns() -> erlang:monotonic_time(nanosecond).

percentile(Sorted, Part) -> lists:nth(max(1, round(length(Sorted) * Part)), Sorted).

%% The resident set of this operating system process, in bytes.
resident() ->
    {ok, Bytes} = file:read_file("/proc/self/statm"),
    [_, Pages | _] = binary:split(Bytes, <<" ">>, [global]),
    binary_to_integer(Pages) * 4096.

print(Case, Children, Values, Unit) ->
    io:format("{\"program\":\"otp\",\"case\":\"~s\",\"children\":~b,~s,\"unit\":\"~s\"}~n",
              [Case, Children,
               lists:join(",", [io_lib:format("\"~s\":~.3f", [Key, float(Value)]) || {Key, Value} <- Values]),
               string:replace(atom_to_list(Unit), "per_s", "1/s")]).
