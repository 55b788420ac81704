%% A process that says when it is up, and does nothing.
-module(otp_bench_worker).
-behaviour(gen_server).

-export([start_link/1]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2]).

start_link(Bench) -> gen_server:start_link(?MODULE, Bench, []).

init(nobody) -> {ok, nobody};
init(Bench) -> {ok, Bench, {continue, up}}.

%% After its supervisor has been told.
handle_continue(up, Bench) ->
    Bench ! {up, self()},
    {noreply, Bench}.

handle_call(_, _, Bench) -> {reply, ok, Bench}.
handle_cast(_, Bench) -> {noreply, Bench}.
