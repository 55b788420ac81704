import SupervisionObserver

/// How an observer serves: on a port that the system chooses.
enum ObserverSettings {
    static var all: [Setting] {
        let of = SettingsOf("ObserverConfiguration", { onFreePort }, use: serve)
        return [
            of("port", \.port), of("maximumViewers", \.maximumViewers),
            of("maximumConnections", \.maximumConnections),
        ]
    }

    private static var onFreePort: ObserverConfiguration {
        var configuration = ObserverConfiguration()
        configuration.port = 0
        return configuration
    }

    /// Without the trait there is nothing that could be served.
    @Sendable
    private static func serve(_ configuration: ObserverConfiguration) async throws {
        #if Observer
        let observer = Observer(configuration: configuration)
        let running = Task { try await observer.run() }
        _ = await observer.url()
        running.cancel()
        try await running.value
        #endif
    }
}
