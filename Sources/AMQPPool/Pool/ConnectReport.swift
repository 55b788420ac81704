/// The failed attempts at each endpoint since its last success, for the errors of waiting callers.
struct ConnectReport {
    typealias Instant = ContinuousClock.Instant

    private struct Entry {
        var endpoint: Endpoint
        var failures = 0
        var hasWorked = false
        var lastError: AMQPError?
        /// Why a channel could not be set up; removed when one was.
        var setUpError: AMQPError?
        /// When the attempts in progress began.
        var running: [Instant] = []
    }

    /// One entry per endpoint of the pool.
    private var entries: [Entry] = []

    mutating func began(_ endpoint: Endpoint, at now: Instant) {
        change(endpoint) { $0.running.append(now) }
    }

    /// An attempt has ended, which began at this instant; `nil` if this side gave it up.
    mutating func ended(_ endpoint: Endpoint, begun: Instant, _ result: Result<Void, AMQPError>?) {
        change(endpoint) { entry in
            if let index = entry.running.firstIndex(of: begun) { entry.running.remove(at: index) }
            switch result {
            case nil: break
            case .success:
                entry.failures = 0
                entry.lastError = nil
                entry.hasWorked = true
            case .failure(let error):
                entry.failures += 1
                entry.lastError = error
            }
        }
    }

    mutating func setUpFailed(_ endpoint: Endpoint, _ error: AMQPError) {
        change(endpoint) { $0.setUpError = error }
    }

    mutating func setUp(_ endpoint: Endpoint) {
        change(endpoint) { $0.setUpError = nil }
    }

    /// The endpoints with a failure or an attempt in progress, in the order of their first attempt.
    func failures(at now: Instant) -> [AMQPError.EndpointFailure] {
        entries.compactMap { entry in
            let name = entry.endpoint.redacted
            if let error = entry.lastError ?? entry.setUpError {
                return AMQPError.EndpointFailure(endpoint: name, error: error, attempts: max(1, entry.failures))
            }
            guard let begun = entry.running.min() else { return nil }
            let waited = begun.duration(to: now).formatted
            let error = AMQPError.connectFailed(endpoint: name, reason: "the attempt has not ended after \(waited)")
            return AMQPError.EndpointFailure(endpoint: name, error: error, attempts: 1)
        }
    }

    /// Whether each of these endpoints has failed, and none ever worked.
    func hasFailed(at endpoints: [Endpoint]) -> Bool {
        endpoints.allSatisfy { endpoint in
            guard let entry = entries.first(where: { $0.endpoint == endpoint }) else { return false }
            return entry.failures > 0 && !entry.hasWorked
        }
    }

    private mutating func change(_ endpoint: Endpoint, _ change: (inout Entry) -> Void) {
        if let index = entries.firstIndex(where: { $0.endpoint == endpoint }) {
            change(&entries[index])
        } else {
            var entry = Entry(endpoint: endpoint)
            change(&entry)
            entries.append(entry)
        }
    }
}

extension Duration {
    /// "0.3 s"
    fileprivate var formatted: String {
        let tenths = max(0, self / .milliseconds(100))
        let whole = Int(min(tenths, 1e12).rounded())
        return "\(whole / 10).\(whole % 10) s"
    }
}
