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

/// One executable, with a process for each service: `shop front`, `shop catalog`, `shop orders`, `shop mailer`. Settings that differ
/// between deployments come from the environment.
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

    /// The pool of the process: `AMQP_ENDPOINTS`, `AMQP_CONNECTIONS` and the other settings.
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
        // Shorter delays, for a trial: MAILER_PAUSES=1s,2s
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
                // Prints the port, which the parent process needs if it passed port 0.
                print("http://127.0.0.1:\(channel.localAddress?.port ?? 0)")
                fflush(nil)
            },
            logger: logger
        )
        // The server stops first: it answers the requests it has accepted, and needs the caller for that.
        try await run([tree, server] + observer { Observer(trees: [tree], callers: [caller], configuration: $0) })
    }

    /// For a trial: a private RabbitMQ, which is restarted when it is killed, and ends with this process.
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
        // Runs until the parent process closes its input, or ends.
        await Task.detached { while readLine() != nil {} }.value
        keeping.cancel()
        await broker.shutdown()
    }

    /// Runs services until SIGTERM: then running requests are finished, and no new ones begin. A second signal ends the process at once;
    /// requests that were running are then delivered again to another process.
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

    /// The observer's page, if a port is set: `OBSERVER_PORT=9570`.
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
