import AMQPPool
import ActorContracts
import Distributed
import RPCActors
import Supervision

private distributed actor TrialVault: Vault {
    typealias ActorSystem = RPCActorSystem
    distributed func open() -> String { "gold" }
}

/// Distributed actors, with a broker at `url`: a call of an actor of a service and of a virtual one.
struct ActorSettings {
    let url: String

    var all: [Setting] {
        let of = SettingsOf(
            "RPCActorConfiguration",
            { [url] in RPCActorConfiguration(endpoints: [try Endpoint(url: url)]) },
            use: { try await call($0) }
        )
        let virtual = SettingsOf("VirtualActorSettings", { VirtualActorSettings() }) { [url] in
            try await call(RPCActorConfiguration(endpoints: [try Endpoint(url: url)]), settings: $0)
        }
        return [
            of("nodeConcurrency", \.nodeConcurrency), of("bounceAfter", \.bounceAfter),
            virtual("idle", \.idle), virtual("prefetch", \.prefetch), virtual("drainTimeout", \.drainTimeout),
            Setting("ActorAddress.virtual#shards") { (shards: Int) in
                _ = ActorAddress.virtual("trial", "vault", "1", shards: shards)
            },
            // So many shards are not waited for.
            Setting("Child.virtual#shards") { [url] shards in
                try await host(RPCActorConfiguration(endpoints: [try Endpoint(url: url)]), shards: shards) { _ in }
            },
            Setting("RPCActorSystem.waitUntilReady#timeout", deadline: true) { [url] timeout in
                try await host(RPCActorConfiguration(endpoints: [try Endpoint(url: url)])) { actors in
                    try await actors.waitUntilReady(timeout: timeout)
                }
            },
            Setting("RemoteCall.with#timeout", deadline: true) { [url] timeout in
                try await call(RPCActorConfiguration(endpoints: [try Endpoint(url: url)]), timeout: timeout)
            },
        ]
    }
}

/// Calls an actor of the service and a virtual one.
private func call(
    _ configuration: RPCActorConfiguration,
    settings: VirtualActorSettings = VirtualActorSettings(),
    timeout: Duration? = nil
) async throws {
    try await host(configuration, settings: settings) { actors in
        try await actors.waitUntilReady()
        for id in [ActorAddress.service("trial", "vault"), .virtual("trial", "vaults", "1", shards: 1)] {
            let vault = try $Vault<RPCActorSystem>.resolve(id: id, using: actors)
            let content = try await RemoteCall.with(timeout: timeout) { try await vault.open() }
            guard content == "gold" else { throw Unexpected("the answer is \(content)") }
        }
    }
}

private func host(
    _ configuration: RPCActorConfiguration,
    shards: Int = 1,
    settings: VirtualActorSettings = VirtualActorSettings(),
    _ body: (RPCActorSystem) async throws -> Void
) async throws {
    let actors = RPCActorSystem(service: "trial", configuration: configuration, logger: quiet) {
        Export(TrialVault.self, as: $Vault<RPCActorSystem>.self)
    }
    let tree = Supervisor("trial", strategy: .restForOne, logger: quiet) {
        actors.supervisor
        Child.distributed("vault", in: actors) { TrialVault(actorSystem: $0) }
        Child.virtual("vaults", shards: shards, in: actors, settings: settings) { _ in TrialVault(actorSystem: actors) }
    }
    try await tree.start()
    do {
        try await body(actors)
    } catch {
        await tree.stop()
        throw error
    }
    await tree.stop()
}
