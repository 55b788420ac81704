//! Permissions of viewers, and the page in your own router.

#if Observer
import Hummingbird
import Supervision
import SupervisionObserver

actor Mailer: Worker, StateReporting {
    private var sent = 0
    private var waiting: [String] = []

    func run() async throws { try await Task.sleep(for: .seconds(3600)) }

    // snippet.describing
    func stateReport() -> StateReport {
        StateReport(waiting.isEmpty ? "idle" : "sending", ["sent": "\(sent)", "waiting": "\(waiting.count)"])
    }
    // snippet.end
}

let app = Supervisor("app") {
    Child("mailer") { _ in Mailer() }
}

func acting(_ secret: String) -> Observer {
    // snippet.actions
    var configuration = ObserverConfiguration()
    configuration.port = 4000
    configuration.allowedHosts = ["observer.internal.example"]
    configuration.permission = .actions(secret)
    return Observer(trees: [app], killMatrix: [app], configuration: configuration)
    // snippet.end
}

func mounted() {
    // snippet.routes
    let router = Router()
    let observer = Observer(trees: [app])
    observer.addRoutes(to: router.group("observer"))
    let server = Application(router: router, services: [app, observer.listener])
    // snippet.end
    _ = server
}
#else
print("build with --traits Observer")
#endif
