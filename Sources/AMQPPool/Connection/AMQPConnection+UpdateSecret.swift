internal import ConcurrencyPrimitives
import NIOCore

/// Pending calls of ``AMQPConnection/updateSecret(_:reason:timeout:)``, in order, because the answers carry no id.
struct SecretUpdates {
    /// The limit of calls that wait for an answer which may never come.
    static let limit = 16

    typealias Continuation = CheckedContinuation<Result<Void, AMQPError>, Never>

    private var calls: [(id: UInt64, continuation: Continuation?)] = []
    private var lastID: UInt64 = 0

    var isFull: Bool { calls.count >= Self.limit }

    mutating func nextID() -> UInt64 {
        lastID += 1
        return lastID
    }

    mutating func append(_ id: UInt64, _ continuation: Continuation) {
        calls.append((id, continuation))
    }

    /// The caller no longer waits. The answer will be ignored.
    mutating func abandon(_ id: UInt64) -> Continuation? {
        guard let index = calls.firstIndex(where: { $0.id == id }) else { return nil }
        defer { calls[index].continuation = nil }
        return calls[index].continuation
    }

    mutating func answered() -> Continuation? {
        calls.isEmpty ? nil : calls.removeFirst().continuation
    }

    mutating func removeAll() -> [Continuation] {
        defer { calls = [] }
        return calls.compactMap(\.continuation)
    }
}

extension AMQPConnection {
    /// Replaces the secret that the connection was opened with, before it expires (`connection.update-secret`): with OAuth 2, the token.
    /// Not needed with a password.
    ///
    /// The secret is in no error or description.
    ///
    /// - Parameters:
    ///   - secret: The new secret.
    ///   - reason: The reason for the broker's log; at most 255 bytes.
    ///   - timeout: The time limit; `nil` for ``ConnectionConfiguration/operationTimeout``.
    /// - Throws: The error that ended the connection (a broker that refuses the secret closes it), ``AMQPError/unencodable(_:)``,
    ///   ``AMQPError/overloaded(_:)``, ``AMQPError/timedOut(operation:after:)`` or ``AMQPError/cancelled(operation:)``.
    public func updateSecret(
        _ secret: String,
        reason: String = "the secret is renewed",
        timeout: Duration? = nil
    ) async throws(AMQPError) {
        if let error = closedError { throw .notSent(error) }
        guard machine.isOpen else { throw .notSent(.connectionClosed) }
        guard !secretUpdates.isFull else { throw .notSent(.overloaded("updates of the secret")) }
        let request = Method.connectionUpdateSecret(newSecret: Array(secret.utf8), reason: reason)
        let id = secretUpdates.nextID()
        let timeout = (timeout ?? configuration.operationTimeout).bounded
        let deadline = eventLoop.scheduleTask(in: TimeAmount(timeout)) {
            self.assumeIsolated { $0.abandonSecretUpdate(id, .timedOut(operation: request.name, after: timeout)) }
        }
        defer { deadline.cancel() }
        let result = await withTaskCancellationHandler {
            await withCheckedContinuation { (continuation: SecretUpdates.Continuation) in
                if let error = send(request, channel: 0) {
                    continuation.resume(returning: .failure(.notSent(.unencodable(error))))
                } else {
                    secretUpdates.append(id, continuation)
                }
            }
        } onCancel: {
            onEventLoop { $0.abandonSecretUpdate(id, .cancelled(operation: request.name)) }
        }
        try result.get()
    }

    private func abandonSecretUpdate(_ id: UInt64, _ error: AMQPError) {
        secretUpdates.abandon(id)?.resume(returning: .failure(error))
    }

    func secretUpdated() {
        secretUpdates.answered()?.resume(returning: .success(()))
    }

    func failSecretUpdates(_ error: AMQPError) {
        for continuation in secretUpdates.removeAll() { continuation.resume(returning: .failure(error)) }
    }
}
