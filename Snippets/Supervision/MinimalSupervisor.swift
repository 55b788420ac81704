import Supervision

actor Counter {
    private var value = 0

    func increment() -> Int {
        value += 1
        return value
    }
}

let supervisor = Supervisor("app", strategy: .oneForOne, intensity: .init(3, within: .seconds(5))) {
    Child("counter") { _ in Counter() }
}
try await supervisor.start()

let counter = try supervisor.child("counter", as: Counter.self)
print(try await counter.call { $0.increment() })
print(supervisor.tree())
await supervisor.stop()
