//! References, what a call can throw, a registry, links and monitors.

import Supervision

actor Account {
    private var balance = 0
    func deposit(_ amount: Int) -> Int {
        balance += amount
        return balance
    }
}

// snippet.registry
actor Room: Worker {
    private let context: ChildContext
    private let rooms: Registry<String, ChildReference<Room>>

    init(_ context: ChildContext, in rooms: Registry<String, ChildReference<Room>>) throws {
        self.context = context
        self.rooms = rooms
        try rooms.register(context.id, context.reference(context.id), for: context.pid)
    }

    func run() async throws { try await Task.sleep(for: .seconds(3600)) }
}

let rooms = Registry<String, ChildReference<Room>>()
let supervisor = Supervisor("app") {
    Child("account") { _ in Account() }
    Child("lobby") { context in try Room(context, in: rooms) }
}
try await supervisor.start()
print(rooms.lookup("lobby")?.value.path ?? "nobody")
// snippet.end

// snippet.call
let account = try supervisor.child("account", as: Account.self)
do {
    print(try await account.call(timeout: .seconds(1)) { $0.deposit(10) })
} catch let error as CallError where error.isRetrySafe {
    print("the body did not run:", error)
} catch let error as CallError {
    print("the body may have run:", error)
}
// snippet.end

// snippet.monitor
if let pid = account.pid {
    pid.kill()
    if let reason = await pid.exited() { print("account:", reason) }
}
// snippet.end

// snippet.link
if let lobby = rooms.lookup("lobby")?.pid, let owner = account.pid {
    lobby.link(to: owner)
    owner.kill()
    if let reason = await lobby.exited() { print("lobby:", reason) }
}
// snippet.end
await supervisor.stop()
