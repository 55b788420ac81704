import NIOCore

/// Puts a message together from its method, header and body frames (AMQP 0-9-1, section 2.3.5).
///
/// A channel carries one message at a time: between the method and the last body frame nothing else may come.
struct ContentAssembly {
    /// A complete message. The properties may have been refused; the body is there all the same.
    struct Content {
        var method: Method
        var properties: Result<MessageProperties, Refusal>
        var body: ByteBuffer
    }

    /// Why a message is not handed on, though the frames were in order.
    enum Refusal: Error, Equatable, CustomStringConvertible {
        case properties(RefusedProperties)
        case tooLarge(bytes: UInt64, limit: Int, MessageProperties?)

        /// What can be told of the message's properties all the same.
        var readable: MessageProperties? {
            switch self {
            case .properties(let refused): refused.readable
            case .tooLarge(_, _, let properties): properties
            }
        }

        var description: String {
            switch self {
            case .properties(let refused): "\(refused.reason)"
            case .tooLarge(let bytes, let limit, _): "a body of \(bytes) bytes is over the limit of \(limit)"
            }
        }
    }

    /// Frames in an order that the protocol does not allow.
    struct Violation: Error, Equatable {
        var description: String
    }

    private enum State {
        case idle
        case awaitingHeader(Method)
        case awaitingBody(Method, Result<MessageProperties, Refusal>, remaining: UInt64, ByteBuffer?)
    }

    private var state = State.idle
    private let maximumBodySize: Int

    /// - Parameter maximumBodySize: bytes; a larger message is swallowed without being stored, and reported as refused.
    init(maximumBodySize: Int) {
        self.maximumBodySize = maximumBodySize
    }

    /// Whether the next frame may be a method.
    var isIdle: Bool {
        if case .idle = state { true } else { false }
    }

    /// Begins a message with a method that carries content.
    mutating func begin(_ method: Method) throws(Violation) {
        guard case .idle = state else { throw Violation(description: "a method in the middle of a message") }
        state = .awaitingHeader(method)
    }

    /// Returns the message if it has no body.
    mutating func header(
        bodySize: UInt64,
        _ properties: Result<MessageProperties, RefusedProperties>
    ) throws(Violation) -> Content? {
        guard case .awaitingHeader(let method) = state else {
            throw Violation(description: "a content header without a method before it")
        }
        var checked: Result<MessageProperties, Refusal> = properties.mapError { .properties($0) }
        if bodySize > UInt64(clamping: maximumBodySize) {
            let readable = try? properties.get()
            checked = .failure(.tooLarge(bytes: bodySize, limit: maximumBodySize, readable))
        }
        guard bodySize > 0 else {
            state = .idle
            return Content(method: method, properties: checked, body: ByteBuffer())
        }
        state = .awaitingBody(method, checked, remaining: bodySize, nil)
        return nil
    }

    /// Returns the message if this frame completes it.
    mutating func body(_ bytes: ByteBuffer) throws(Violation) -> Content? {
        // Takes the state's references, so that nothing is copied.
        var current = State.idle
        swap(&current, &state)
        guard case .awaitingBody(let method, let properties, let remaining, var stored) = consume current else {
            throw Violation(description: "a body frame without a content header before it")
        }
        let count = UInt64(bytes.readableBytes)
        guard count <= remaining else {
            throw Violation(description: "a body longer than its header announced")
        }
        if case .success = properties {
            if stored == nil {
                stored = bytes
            } else {
                stored?.writeImmutableBuffer(bytes)
            }
        }
        guard count == remaining else {
            state = .awaitingBody(method, properties, remaining: remaining - count, stored)
            return nil
        }
        return Content(method: method, properties: properties, body: stored ?? ByteBuffer())
    }
}
