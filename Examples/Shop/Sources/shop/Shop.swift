import AMQPPool
import Configuration
import Foundation
import Hummingbird
import LocalBroker
import Logging
import QueueWorkers
import ServiceLifecycle
import ShopServices
import Supervision
import SupervisionObserver
import UnixSignals

/// One executable, and a process for each service: `shop front`, `shop catalog`, `shop orders`, `shop mailer`. What differs from
/// deployment to deployment comes from the environment.
@main
struct Shop {
    private let logger: Logger
    private let config: ConfigReader

    static func main() async {
        let role = CommandLine.arguments.dropFirst().first ?? ""
        let shop = Shop(
            logger: Logger(label: "shop.\(role)"),
            config: ConfigReader(
                provider: EnvironmentVariablesProvider(
                    secretsSpecifier: .specific(["AMQP_ENDPOINTS", "AMQP_PASSWORD"])
                )
            )
        )
        do {
            switch role {
            case "front": try await shop.front()
            case "catalog": try await shop.catalog()
            case "orders": try await shop.orders()
            case "mailer": try await shop.mailer()
            case "broker": try await shop.broker()
            default:
                say("usage: shop front | catalog | orders | mailer | broker")
                exit(64)
            }
        } catch {
            say("shop \(role): \(error)")
            exit(1)
        }
    }

    /// The one pool of a process: `AMQP_ENDPOINTS`, `AMQP_CONNECTIONS` and the others.
    private func pool(_ role: String) throws -> AMQPPool {
        var configuration = try PoolConfiguration(config.scoped(to: "amqp"))
        if configuration.connection.name == nil { configuration.connection.name = "shop-\(role)" }
        return AMQPPool(configuration: configuration, logger: logger)
    }

    private func catalog() async throws {
        let pool = try pool("catalog")
        let (tree, receiver) = CatalogService.tree(on: pool, logger: logger)
        try await run([tree] + observer { Observer(trees: [tree], receivers: [receiver], configuration: $0) })
    }

    private func orders() async throws {
        let pool = try pool("orders")
        let (tree, caller, receiver) = OrderService.tree(on: pool, logger: logger)
        let page = observer {
            Observer(trees: [tree], callers: [caller], receivers: [receiver], pools: [pool], configuration: $0)
        }
        try await run([tree] + page)
    }

    private func mailer() async throws {
        let pool = try pool("mailer")
        // Shorter pauses, for trying it: MAILER_PAUSES=1s,2s
        let tree =
            if let pauses = config.stringArray(forKey: "mailer.pauses") {
                Mailer.tree(
                    on: pool,
                    retry: .after(pauses.compactMap { Double($0.dropLast()) }.map { .seconds($0) }, then: .park),
                    logger: logger
                )
            } else {
                Mailer.tree(on: pool, logger: logger)
            }
        try await run([tree] + observer { Observer(trees: [tree], pools: [pool], configuration: $0) })
    }

    private func front() async throws {
        let pool = try pool("front")
        let (tree, caller) = Front.tree(on: pool, logger: logger)
        let router = Router()
        Front.addRoutes(caller, to: router)
        Front.addProbes(of: [tree, caller], to: router)
        let server = Application(
            router: router,
            configuration: .init(
                address: .hostname(
                    config.string(forKey: "shop.host", default: "127.0.0.1"),
                    port: config.int(forKey: "shop.port", default: 8080)
                )
            ),
            onServerRunning: { channel in
                // Whoever started it on port 0 wants to know.
                print("http://127.0.0.1:\(channel.localAddress?.port ?? 0)")
                fflush(nil)
            },
            logger: logger
        )
        // The server is stopped first: what it has taken in is answered, and that needs the caller.
        try await run([tree, server] + observer { Observer(trees: [tree], callers: [caller], configuration: $0) })
    }

    /// For trying it: a private RabbitMQ, which is started again when it is killed, and gone with this process.
    private func broker() async throws {
        var options = LocalBroker.Options()
        options.logger = logger
        let broker = try await LocalBroker.start(options)
        print("\(broker.url) \(await broker.processID ?? 0)")
        fflush(nil)
        let keeping = Task {
            while !Task.isCancelled {
                try? await broker.run()
                guard !Task.isCancelled else { return }
                logger.error("the broker has ended, and is started again")
                try? await Task.sleep(for: .seconds(2))
                try? await broker.startAgain()
                print("\(broker.url) \(await broker.processID ?? 0)")
                fflush(nil)
            }
        }
        // Until whoever has started it closes its input, or ends.
        await Task.detached { while readLine() != nil {} }.value
        keeping.cancel()
        await broker.shutdown()
    }

    /// Runs services until SIGTERM: what is in work is finished, and nothing new is begun. A second signal ends the process at once; what was
    /// in work then is delivered again, to another one.
    private func run(_ services: [any Service]) async throws {
        let hurry = Task {
            var isStopping = false
            for await signal in await UnixSignalsSequence(trapping: .sigterm, .sigint) {
                if isStopping { exit(signal == .sigint ? 130 : 143) }
                isStopping = true
            }
        }
        defer { hurry.cancel() }
        try await ServiceGroup(
            configuration: .init(
                services: services.map { .init(service: $0) },
                gracefulShutdownSignals: [.sigterm, .sigint],
                logger: logger
            )
        ).run()
    }

    /// The page that shows the process, where a port is named: `OBSERVER_PORT=9570`.
    private func observer(_ make: (ObserverConfiguration) -> Observer) -> [any Service] {
        guard let port = config.int(forKey: "observer.port") else { return [] }
        var configuration = ObserverConfiguration()
        configuration.port = port
        return [make(configuration)]
    }

    private static func say(_ text: String) {
        FileHandle.standardError.write(Data("\(text)\n".utf8))
    }
}
