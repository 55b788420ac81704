# The cases of supervision-bench that are Elixir's: DynamicSupervisor and Registry.
#
#     elixirc elixir_bench.ex
#     elixir --erl "+P 4194304" -pa . -e 'ElixirBench.main("CASE", COUNT)'
#
# Prints one line of JSON.
defmodule ElixirBench.Worker do
  use GenServer, restart: :permanent

  def start_link(_), do: GenServer.start_link(__MODULE__, :ok)

  @impl true
  def init(:ok), do: {:ok, nil}
end

defmodule ElixirBench do
  def main(name, count) do
    Logger.configure(level: :none)
    run(name, count)
  end

  # Children a second, started one after the other by one process.
  defp run("dynamic-start", count) do
    {:ok, supervisor} = DynamicSupervisor.start_link(strategy: :one_for_one)
    begin = now()
    start_children(supervisor, count)
    time = now() - begin
    print("dynamic-start", count, [value: count / (time / 1.0e9)], "1/s")
  end

  defp run("dynamic-stop", count) do
    {:ok, supervisor} = DynamicSupervisor.start_link(strategy: :one_for_one)
    start_children(supervisor, count)
    Process.sleep(200)
    begin = now()
    DynamicSupervisor.stop(supervisor, :normal, :infinity)
    print("dynamic-stop", count, [value: (now() - begin) / 1.0e6], "ms")
  end

  # Lookups a second of so many readers together, among 10,000 names.
  defp run("lookup", readers) do
    {:ok, _} = Registry.start_link(keys: :unique, name: ElixirBench.Names)
    for n <- 1..10_000, do: {:ok, _} = Registry.register(ElixirBench.Names, key(n), n)
    keys = List.to_tuple(for n <- 1..10_000, do: key(n))
    # Once for the machine code to be warm.
    read(readers, keys, 200_000)
    each = 2_000_000
    begin = now()
    read(readers, keys, each)
    time = now() - begin
    print("lookup", readers, [value: readers * each / (time / 1.0e9)], "1/s")
  end

  defp read(readers, keys, each) do
    1..readers
    |> Enum.map(fn reader -> Task.async(fn -> look_up(keys, each, reader * 37) end) end)
    |> Enum.each(&Task.await(&1, :infinity))
  end

  defp look_up(_, 0, _), do: :ok

  defp look_up(keys, left, n) do
    [{_, _}] = Registry.lookup(ElixirBench.Names, elem(keys, rem(n, 10_000)))
    look_up(keys, left - 1, n + 7)
  end

  defp start_children(_, 0), do: :ok

  defp start_children(supervisor, left) do
    {:ok, _} = DynamicSupervisor.start_child(supervisor, ElixirBench.Worker)
    start_children(supervisor, left - 1)
  end

  defp key(n), do: "user-#{n}"
  defp now, do: System.monotonic_time(:nanosecond)

  defp print(name, count, values, unit) do
    numbers = Enum.map_join(values, ",", fn {key, value} -> "\"#{key}\":#{:erlang.float_to_binary(value * 1.0, decimals: 3)}" end)
    IO.puts("{\"program\":\"elixir\",\"case\":\"#{name}\",\"children\":#{count},#{numbers},\"unit\":\"#{unit}\"}")
  end
end
