//! A counter under a supervisor: killed, restarted, and still reachable.

import Supervision

// snippet.counter
actor Counter {
    private var value = 0

    func increment() -> Int {
        value += 1
        return value
    }
}
// snippet.end

// snippet.start
let supervisor = Supervisor("app") {
    Child("counter") { _ in Counter() }
}
try await supervisor.start()
// snippet.end

// snippet.call
let counter = try supervisor.child("counter", as: Counter.self)
print(try await counter.call { $0.increment() })
print(try await counter.call { $0.increment() })
// snippet.end

// snippet.kill
let events = supervisor.events
counter.pid?.kill()
for await event in events {
    print(event.path, event.kind)
    if case .started = event.kind { break }
}
print(try await counter.call { $0.increment() })
// snippet.end

// snippet.tree
print(supervisor.tree())
await supervisor.stop()
// snippet.end
