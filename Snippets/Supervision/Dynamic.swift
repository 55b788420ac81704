//! Dynamic children: sessions, tasks, partitions, and changes at run time.

import Supervision

actor Session {
    let user: String
    init(user: String) { self.user = user }
    func greet() -> String { "hello, \(user)" }
}

actor Counter {
    private var value = 0
    func increment() -> Int {
        value += 1
        return value
    }
}

// snippet.tree
let counters = PartitionSupervisor<Counter>("counters", partitions: 4) { id, _ in
    Child(id) { _ in Counter() }
}
let supervisor = Supervisor("app") {
    DynamicSupervisor("sessions", maximumChildren: 10_000)
    TaskSupervisor("tasks")
    counters
}
try await supervisor.start()
// snippet.end

// snippet.dynamic
let sessions = try supervisor.dynamicSupervisor("sessions")
let ada = try await sessions.startChild(
    Child("session", restart: .transient) { _ in Session(user: "ada") },
    as: Session.self
)
if let ada {
    print(try await ada.call { $0.greet() })
    if let pid = ada.pid { try await sessions.terminateChild(pid) }
}
// snippet.end

// snippet.template
let template = ChildTemplate("session", restart: .transient) { (user: String, _) in Session(user: user) }
let grace = try await sessions.startChild(template, with: "grace")
print(try await grace?.call { $0.greet() } ?? "nobody")
// snippet.end

// snippet.inline
let inline = ChildTemplate.inline("session", restart: .transient) { (user: String, _) in Session(user: user) }
let alan = try await sessions.startChild(inline, with: "alan")
alan?.pid?.kill()
// snippet.end

// snippet.tasks
let tasks = try supervisor.taskSupervisor("tasks")
let sum = try await tasks.async { _ in (1...100).reduce(0, +) }
print(try await sum.value)

for try await (letter, result) in tasks.stream(over: ["a", "b", "c"], timeout: .seconds(5), { $0.uppercased() }) {
    if case .success(let capital) = result { print(letter, capital) }
}
// snippet.end

// snippet.partitions
let counter = counters.partition(for: "ada", under: try supervisor.reference())
print(try await counter.call { $0.increment() })
// snippet.end

// snippet.administration
let root = try supervisor.reference()
try await root.startChild(Child("extra") { _ in Counter() })
try await root.terminateChild("extra")
try await root.restartChild("extra")
try await root.terminateChild("extra")
try await root.deleteChild("extra")
print(root.countChildren().active)
// snippet.end
await supervisor.stop()
