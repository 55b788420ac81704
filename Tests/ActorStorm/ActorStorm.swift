import ArgumentParser

/// Nodes with virtual actors that come, go and are killed: see `scripts/storm --actors --help` and `scripts/demo --actors`.
@main
struct ActorStorm: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ActorStorm",
        abstract: "Virtual actors on nodes that come, go and are killed.",
        subcommands: [Storm.self, Demo.self, Node.self]
    )
}
