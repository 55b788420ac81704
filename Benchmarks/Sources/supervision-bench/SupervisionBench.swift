import ArgumentParser
import BenchmarkSupport
import Supervision

@main
enum Main {
    static func main() {
        runBlocking { await SupervisionBench.main(nil) }
    }
}

struct SupervisionBench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "supervision-bench",
        abstract: "Measures supervisors and registries, as Baselines/otp does on Erlang and Elixir.",
        discussion: """
            Prints one line of JSON. Cases:
              restart    from the kill of a child to the next one being up, p50 of 2,000; a fresh tree after every 20
              kill-all   so many children killed at once: restarts a second
              start      dynamic children started one after the other: children a second
              memory     resident bytes for each idle dynamic child
              stop       stopping a dynamic supervisor with so many children: milliseconds
              lookup     registry lookups a second, --children is the number of readers
              keyed-new  processes found or started by new keys, one after the other: keys a second
              keyed-present   the same by keys that are there, --children is the number of tasks: finds a second
              tree       a tree of depth --children in which each supervisor has four children: start, stop, rebuild
              scale      an ordinary supervisor: what each operation costs with so many children
              repeat-restart, repeat-lookup   --times of them, for counting instructions
            """
    )

    @Argument(help: "The case.")
    var name: Name

    @Option(help: "How many children, or readers; the depth of the tree.")
    var children = 1

    @Option(help: "What the children are.")
    var kind = Kind.actor

    @Option(help: "How often, in the cases that only repeat.")
    var times = 1000

    enum Name: String, ExpressibleByArgument, CaseIterable {
        case restart, start, memory, stop, lookup, tree, scale
        case killAll = "kill-all"
        case keyedNew = "keyed-new"
        case keyedPresent = "keyed-present"
        case repeatRestart = "repeat-restart"
        case repeatLookup = "repeat-lookup"
    }

    func validate() throws {
        guard children > 0, times >= 0 else {
            throw ValidationError("--children must be at least 1, --times at least 0")
        }
    }

    func run() async throws {
        var values: [(String, Double)]
        var unit = "us"
        var count = children
        switch name {
        case .restart: values = try await Cases.restart(kind, children)
        case .killAll: (values, unit) = (try await Cases.killAll(kind, children), "1/s")
        case .start: (values, unit) = (try await Cases.start(kind, children), "1/s")
        case .memory: (values, unit) = (try await Cases.memory(kind, children), "bytes")
        case .stop: (values, unit) = (try await Cases.stop(kind, children), "ms")
        case .lookup: (values, unit) = (try await Cases.lookup(readers: children), "1/s")
        case .keyedNew: (values, unit) = (try await Cases.keyedNew(children), "1/s")
        case .keyedPresent: (values, unit) = (try await Cases.keyedPresent(readers: children), "1/s")
        case .tree:
            unit = "ms"
            (count, values) = try await Cases.tree(kind, depth: children)
        case .scale: (values, unit) = (try await Cases.scale(kind, children), "mixed")
        case .repeatRestart: values = try await Cases.repeatRestart(kind, times)
        case .repeatLookup: values = try await Cases.repeatLookup(times)
        }
        var line = JSONLine()
        line.add("program", "ours")
        line.add("case", name.rawValue)
        line.add("kind", kind.rawValue)
        line.add("children", count)
        for (key, value) in values { line.add(key, value) }
        line.add("unit", unit)
        line.print()
    }
}
