import Logging
import ServiceLifecycle

/// Runs one `Service` as a child: in its own group, which is the only public way to shut down a single service gracefully.
actor ServiceRunner: Worker {
    private let service: any Service
    private let stop: StopRequest
    private let logger: Logger

    init(_ service: any Service, _ context: ChildContext) {
        self.service = service
        stop = context.stopRequest
        logger = context.logger
    }

    func run() async throws {
        try await ServiceRunner.run(service, stop: stop, logger: logger)
    }

    static func run(_ service: any Service, stop: StopRequest, logger: Logger) async throws {
        let group = ServiceGroup(
            configuration: .init(
                services: [
                    .init(
                        service: service,
                        successTerminationBehavior: .gracefullyShutdownGroup,
                        failureTerminationBehavior: .cancelGroup
                    )
                ],
                logger: logger
            )
        )
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask {
                await stop.wait()
                // False when the service has ended by itself or is cancelled.
                if stop.isRequested { await group.triggerGracefulShutdown() }
            }
            defer { tasks.cancelAll() }
            try await group.run()
        }
    }
}
