# The cases of supervision-bench that are Elixir's: DynamicSupervisor and Registry.
#
#     elixirc elixir_bench.ex
#     elixir --erl "+P 4194304" -pa . -e 'ElixirBench.main("CASE", COUNT)'
#
# Prints one line of JSON.
defmodule ElixirBench.Worker do
  use GenServer, restart: :permanent

  def start_link(options), do: GenServer.start_link(__MODULE__, :ok, List.wrap(options))

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

  # Processes found or started by new keys, one after the other by one process, in the pattern {:via, Registry, ...}.
  defp run("keyed-new", count) do
    start_keyed()
    keys = for n <- 1..count, do: key(n)
    begin = now()
    Enum.each(keys, &find_or_start/1)
    time = now() - begin
    %{active: ^count} = DynamicSupervisor.count_children(ElixirBench.Keyed)
    print("keyed-new", count, [value: count / (time / 1.0e9)], "1/s")
  end

  # The same by one of 10,000 keys that are there, by so many processes at once.
  defp run("keyed-present", readers) do
    start_keyed()
    for n <- 1..10_000, do: find_or_start(key(n))
    keys = List.to_tuple(for n <- 1..10_000, do: key(n))
    find(readers, keys, 100_000)
    each = 1_000_000
    begin = now()
    find(readers, keys, each)
    time = now() - begin
    print("keyed-present", readers, [value: readers * each / (time / 1.0e9)], "1/s")
  end

  defp start_keyed do
    # Each key has a partition in either, as it has here.
    {:ok, _} = Registry.start_link(keys: :unique, name: ElixirBench.Names, partitions: System.schedulers_online())
    {:ok, _} = DynamicSupervisor.start_link(strategy: :one_for_one, name: ElixirBench.Keyed)
  end

  # Looks first, which is the fast way, and lets the name decide who starts it.
  defp find_or_start(key) do
    case Registry.lookup(ElixirBench.Names, key) do
      [{pid, _}] ->
        pid

      [] ->
        name = {:via, Registry, {ElixirBench.Names, key}}

        case DynamicSupervisor.start_child(ElixirBench.Keyed, {ElixirBench.Worker, [name: name]}) do
          {:ok, pid} -> pid
          {:error, {:already_started, pid}} -> pid
        end
    end
  end

  defp find(readers, keys, each) do
    1..readers
    |> Enum.map(fn reader -> Task.async(fn -> find_keys(keys, each, reader * 37) end) end)
    |> Enum.each(&Task.await(&1, :infinity))
  end

  defp find_keys(_, 0, _), do: :ok

  defp find_keys(keys, left, n) do
    pid = find_or_start(elem(keys, rem(n, 10_000)))
    true = is_pid(pid)
    find_keys(keys, left - 1, n + 7)
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
