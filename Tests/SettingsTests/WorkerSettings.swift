import AMQPPool
import QueueWorkers
import Supervision
import Synchronization

/// QueueWorkers, with a broker at `url`: works and stops.
struct WorkerSettings {
    let url: String

    var all: [Setting] {
        let url = url
        let of = SettingsOf("WorkerConfiguration", { WorkerConfiguration() }) {
            try await work(url, $0, fails: true)
        }
        @Sendable
        func with(_ change: (inout WorkerConfiguration) -> Void) -> WorkerConfiguration {
            var configuration = WorkerConfiguration()
            change(&configuration)
            return configuration
        }
        func switching(_ name: String, _ make: @escaping @Sendable (Duration) -> KillSwitch) -> Setting {
            Setting("KillSwitch.\(name)", called: "kill switch") { value in
                try await work(url, with { $0.killSwitch = make(value) }, fails: true)
            }
        }
        let settings: [Setting] = [
            of("concurrency", \.concurrency), of("prefetch", \.prefetch),
            of("handlerTimeLimit", \.handlerTimeLimit), of("drainTimeout", \.drainTimeout),
            of("deliveryLimit", \.deliveryLimit),
            Setting("WorkerDeduplication.maximumEntries", called: "deduplication") { value in
                var deduplication = WorkerDeduplication()
                deduplication.maximumEntries = value
                try await work(url, with { [deduplication] in $0.deduplication = deduplication })
            },
            Setting("WorkerDeduplication.maximumAge", called: "deduplication") { value in
                var deduplication = WorkerDeduplication()
                deduplication.maximumAge = value
                try await work(url, with { [deduplication] in $0.deduplication = deduplication })
            },
            Setting("WorkerDeduplication.init#maximumEntries", called: "deduplication") { value in
                try await work(url, with { $0.deduplication = WorkerDeduplication(maximumEntries: value) })
            },
            Setting("WorkerDeduplication.init#maximumAge", called: "deduplication") { value in
                try await work(url, with { $0.deduplication = WorkerDeduplication(maximumAge: value) })
            },
            Setting("DeliveryRate.count", called: "rate") { value in
                var rate = DeliveryRate(1, in: .seconds(1))
                rate.count = value
                try await work(url, with { [rate] in $0.rate = rate }, messages: 2)
            },
            Setting("DeliveryRate.interval", called: "rate") { value in
                var rate = DeliveryRate(1, in: .seconds(1))
                rate.interval = value
                try await work(url, with { [rate] in $0.rate = rate }, messages: 2)
            },
            Setting("DeliveryRate.init#count", called: "rate") { value in
                try await work(url, with { $0.rate = DeliveryRate(value, in: .seconds(1)) }, messages: 2)
            },
            Setting("DeliveryRate.init#in", called: "rate") { value in
                try await work(url, with { $0.rate = DeliveryRate(1, in: value) }, messages: 2)
            },
            Setting("KillSwitch.share", called: "kill switch") { value in
                var killSwitch = KillSwitch(share: 0.01, minimum: 1)
                killSwitch.share = value
                try await work(url, with { [killSwitch] in $0.killSwitch = killSwitch }, fails: true)
            },
            Setting("KillSwitch.minimum", called: "kill switch") { value in
                var killSwitch = KillSwitch(share: 0.01, minimum: 1)
                killSwitch.minimum = value
                try await work(url, with { [killSwitch] in $0.killSwitch = killSwitch }, fails: true)
            },
            Setting("KillSwitch.init#share", called: "kill switch") { value in
                try await work(url, with { $0.killSwitch = KillSwitch(share: value, minimum: 1) }, fails: true)
            },
            Setting("KillSwitch.init#minimum", called: "kill switch") { value in
                try await work(url, with { $0.killSwitch = KillSwitch(minimum: value) }, fails: true)
            },
            switching("window") { value in
                var killSwitch = KillSwitch(share: 0.01, minimum: 1)
                killSwitch.window = value
                return killSwitch
            },
            switching("pause") { value in
                var killSwitch = KillSwitch(share: 0.01, minimum: 1)
                killSwitch.pause = value
                return killSwitch
            },
            switching("init#window") { KillSwitch(share: 0.01, minimum: 1, window: $0) },
            switching("init#pause") { KillSwitch(share: 0.01, minimum: 1, pause: $0) },
        ]
        return settings + others
    }

    private var others: [Setting] {
        let url = url
        return [
            Setting("WorkerRetry.after#immediately", called: "retry") { value in
                try await work(url, WorkerConfiguration(), .after([], immediately: value), fails: true)
            },
            Setting("WorkerRetry.backoff#backoff", called: "retry") { (value: Backoff) in
                try await work(url, WorkerConfiguration(), .backoff(value, attempts: 3), fails: true)
            },
            Setting("WorkerRetry.backoff#attempts", called: "retry") { value in
                let short = Backoff(minimum: .milliseconds(1), maximum: .milliseconds(1))
                try await work(url, WorkerConfiguration(), .backoff(short, attempts: value), fails: true)
            },
            Setting("Duration.minutes#minutes") { (value: Int) in _ = Duration.minutes(value) },
            Setting("Duration.hours#hours") { (value: Int) in _ = Duration.hours(value) },
            Setting("FailureDecision.retryAfter") { (value: Duration) in
                var configuration = WorkerConfiguration()
                configuration.onFailure = { _, _ in .retryAfter(value) }
                try await work(url, configuration, fails: true)
            },
            Setting("QueueWorker.setConcurrency#concurrency") { (value: Int) in
                try await work(url, WorkerConfiguration()) { try await $0.setConcurrency(value) }
            },
            Setting("QueueWorker.setPrefetch#prefetch") { (value: UInt16) in
                try await work(url, WorkerConfiguration()) { try await $0.setPrefetch(value) }
            },
            Setting("Child.batchWorker#size") { (value: Int) in
                try await batch(url, size: value, within: .milliseconds(1))
            },
            Setting("Child.batchWorker#within") { (value: Duration) in try await batch(url, size: 2, within: value) },
            Setting("InProcessWorker.init#size") { (value: Int) in
                let worker = InProcessWorker(batchesOf: Int.self, size: value, within: .milliseconds(1)) { _ in }
                _ = try await worker.deliver(1)
            },
            Setting("InProcessWorker.init#within") { (value: Duration) in
                let worker = InProcessWorker(batchesOf: Int.self, size: 1, within: value) { _ in }
                _ = try await worker.deliver(1)
            },
            Setting("AMQPPool.publish#timeout", deadline: true) { (value: Duration) in
                let pool = AMQPPool(endpoints: [try Endpoint(url: url)], logger: quiet)
                try await pool.start()
                let result: Result<Void, any Error>
                do {
                    try await pool.withDedicatedChannel { _ = try await $0.declareQueue("numbers", durable: true) }
                    try await pool.publish(1, to: "numbers", timeout: value)
                    result = .success(())
                } catch {
                    result = .failure(error)
                }
                await pool.stop()
                try result.get()
            },
        ]
    }
}

/// How often a handler was called.
private final class Calls: Sendable {
    private let state = Mutex((count: 0, isOver: false))

    func note() { state.withLock { $0.count += 1 } }
    func end() { state.withLock { $0.isOver = true } }
    var isOver: Bool { state.withLock { $0.isOver } }

    /// Waits until it was called so often, or its tree has ended: with some settings it never is.
    func wait(for count: Int) async throws {
        let deadline = ContinuousClock.now + .seconds(2)
        while ContinuousClock.now < deadline, state.withLock({ $0.count < count && !$0.isOver }) {
            try await Task.sleep(for: .milliseconds(5))
        }
    }
}

/// Works until its handler has run: for one message, or for two and a failure, so that what is added to times is.
private func work(
    _ url: String,
    _ configuration: WorkerConfiguration,
    _ retry: WorkerRetry = .after([.milliseconds(1)]),
    fails: Bool = false,
    messages: Int = 1,
    _ change: @escaping @Sendable (QueueWorker) async throws -> Void = { _ in }
) async throws {
    let pool = AMQPPool(endpoints: [try Endpoint(url: url)], logger: quiet)
    let calls = Calls()
    let child = Child.worker(
        of: Int.self,
        from: "worked",
        on: pool,
        retry: retry,
        configuration: configuration
    ) { _, context in
        calls.note()
        if fails, context.attempt == 1 { throw Unexpected("on purpose") }
    }
    try await play(pool, child, calls, messages: messages, attempts: fails ? 2 : 1, change)
}

/// A batch that waits for its second message, and gets it.
private func batch(_ url: String, size: Int, within time: Duration) async throws {
    let pool = AMQPPool(endpoints: [try Endpoint(url: url)], logger: quiet)
    let calls = Calls()
    let child = Child.batchWorker("worked", of: Int.self, from: "worked", on: pool, size: size, within: time) { _ in
        calls.note()
    }
    try await play(pool, child, calls, messages: 2, attempts: 1) { _ in }
}

private func play(
    _ pool: AMQPPool,
    _ child: Child,
    _ calls: Calls,
    messages: Int,
    attempts: Int,
    _ change: @escaping @Sendable (QueueWorker) async throws -> Void
) async throws {
    let root = Supervisor("app", intensity: RestartIntensity(0, within: .seconds(1)), logger: quiet) {
        pool.supervisor
        child
    }
    let running = Task { try await root.run() }
    let ended = Task {
        let result = await running.result
        calls.end()
        return result
    }
    var left = messages
    let deadline = ContinuousClock.now + .seconds(5)
    // The queue may not be there yet, or have no leader.
    while left > 0, !calls.isOver, ContinuousClock.now < deadline {
        do {
            try await pool.publish(1, to: "worked", timeout: .seconds(1))
            left -= 1
        } catch {
            try await Task.sleep(for: .milliseconds(10))
        }
    }
    try await calls.wait(for: attempts)
    if let worker = try? root.child("worked", as: QueueWorker.self).resolve() { try await change(worker) }
    try await calls.wait(for: messages * attempts)
    await root.stop()
    try await ended.value.get()
}
