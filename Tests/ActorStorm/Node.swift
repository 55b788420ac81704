import AMQPPool
import ActorContracts
import ArgumentParser
import Distributed
import Foundation
import Logging
import RPCActors
import RPCReceiver
import Supervision
import Synchronization

/// The account that the nodes hold.
distributed actor StoredBankAccount: Account {
    typealias ActorSystem = RPCActorSystem
    private let key: String
    private let number: Int64
    private let folder: URL
    private let log: WorkLog
    private var stored: StoredAccount
    private var calls = 0

    init(_ activation: VirtualActivation, folder: URL, log: WorkLog, actorSystem: RPCActorSystem) throws {
        self.actorSystem = actorSystem
        key = activation.key
        number = activation.number
        self.folder = folder
        self.log = log
        stored = StoredAccount.read(activation.key, in: folder)
        guard stored.number <= activation.number else { throw StoredAccount.Fenced() }
        stored.number = activation.number
        // From now on nobody older writes.
        try stored.write(activation.key, in: folder)
    }

    private var balance: Balance {
        Balance(key: key, cents: stored.cents, node: actorSystem.node, number: number, calls: calls)
    }

    distributed func add(_ cents: Int) throws -> Balance {
        let begin = WorkLog.now
        calls += 1
        let id = RemoteCall.current.context?.messageID ?? ""
        // Delivered again after it was worked on, and before it was answered.
        if !stored.requests.contains(id) {
            var next = stored
            next.cents += cents
            next.requests = Array((next.requests + [id]).suffix(StoredAccount.rememberedRequests))
            try next.write(key, in: folder)
            stored = next
        }
        log.add(key, number, from: begin, to: WorkLog.now)
        return balance
    }

    distributed func hold(milliseconds: Int) async throws -> Balance {
        try await Task.sleep(for: .milliseconds(milliseconds))
        return balance
    }

    /// Takes its whole process with it, as a trap does.
    distributed func crash() throws {
        kill(getpid(), SIGKILL)
    }
}

/// Ends the teller that throws it.
struct Broken: CrashingError, Codable {}

/// What a teller can do to its process.
final class TellerProcess: Sendable {
    private let kill = Mutex<(@Sendable () -> Void)?>(nil)
    private let count = Atomic(0)

    func whenAsked(_ kill: @escaping @Sendable () -> Void) { self.kill.withLock { $0 = kill } }
    func end() { kill.withLock { $0 }?() }
    func next() -> Int { count.add(1, ordering: .relaxed).newValue }
}

distributed actor PlainTeller: Teller {
    typealias ActorSystem = RPCActorSystem
    private let process: TellerProcess
    private let number: Int

    init(_ process: TellerProcess, actorSystem: RPCActorSystem) {
        self.actorSystem = actorSystem
        self.process = process
        number = process.next()
    }

    distributed func greet(name: String) -> String { "hello, \(name)" }
    distributed func transfer(_ transfer: Transfer, note: String?) throws -> Int {
        guard transfer.cents <= 100 else { throw Insufficient(missing: transfer.cents - 100) }
        return transfer.cents
    }
    /// Kills the process of this actor.
    distributed func forget(_ name: String) { process.end() }
    /// Takes its whole process with it, as a trap does.
    distributed func leak() { kill(getpid(), SIGKILL) }
    distributed func sleep(milliseconds: Int) async throws -> Int {
        try await Task.sleep(for: .milliseconds(milliseconds))
        return milliseconds
    }
    distributed func crash() throws { throw Broken() }
    distributed func incarnation() -> Int { number }
}

struct Node: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "One node, until it is killed or gets SIGTERM.")

    @Option(help: "The broker, or several of a cluster with commas between them.")
    var url: String

    @Option(help: "Where accounts and logs are.")
    var folder: String

    @Option(help: "How many shards.")
    var shards = 8

    @Flag(help: "Whether the shards' queues are quorum queues.")
    var quorum = false

    @Option(help: "The heartbeat, in seconds.")
    var heartbeat = 10

    func run() async throws {
        var configuration = RPCActorConfiguration(
            endpoints: try url.split(separator: ",").map { try Endpoint(url: String($0)) }
        )
        configuration.pool.connection.heartbeat = .seconds(heartbeat)
        configuration.pool.backoff = Backoff(minimum: .milliseconds(50), maximum: .seconds(1), jitter: 1)
        let logger = Logger(label: "node") { StreamLogHandler.standardError(label: $0) }
        let actors = RPCActorSystem(service: "bank", configuration: configuration, logger: logger) {
            Export(StoredBankAccount.self, as: $Account<RPCActorSystem>.self)
            Export(
                PlainTeller.self,
                as: $Teller<RPCActorSystem>.self,
                errors: Insufficient.self,
                Broken.self
            )
        }
        var settings = VirtualActorSettings()
        settings.usesQuorumQueues = quorum
        settings.drainTimeout = .seconds(10)
        let accounts = URL(filePath: folder)
        let log = try WorkLog(accounts.appending(path: "\(getpid()).log"))
        let teller = TellerProcess()
        let root = Supervisor("bank", strategy: .restForOne, logger: logger) {
            actors.supervisor
            Supervisor("tellers", intensity: RestartIntensity(3, within: .seconds(60)), restart: .temporary) {
                Child.distributed("teller", in: actors) { PlainTeller(teller, actorSystem: $0) }
            }
            Child.virtual("account", shards: shards, in: actors, settings: settings) { activation in
                try StoredBankAccount(activation, folder: accounts, log: log, actorSystem: actors)
            }
        }
        signal(SIGTERM, SIG_IGN)
        let source = DispatchSource.makeSignalSource(signal: SIGTERM)
        let (signals, continuation) = AsyncStream.makeStream(of: Void.self)
        source.setEventHandler { continuation.yield(()) }
        source.resume()
        try await root.start()
        let cell = try root.child("tellers", "teller", as: ActorCell<PlainTeller>.self)
        teller.whenAsked { cell.pid?.kill() }
        try await actors.waitUntilReady(timeout: .seconds(120))
        FileHandle.standardOutput.write(Data("ready \(actors.node)\n".utf8))
        for await _ in signals { break }
        await root.stop()
        source.cancel()
    }
}
