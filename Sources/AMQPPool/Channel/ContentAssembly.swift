import NIOCore

/// Assembles a message from its method, header and body frames (AMQP 0-9-1, section 2.3.5).
///
/// A channel carries one message at a time: no other frame may come between the method and the last body frame.
struct ContentAssembly {
    /// A complete message. The body is present even if the properties were refused.
    struct Content {
        var method: Method
        var properties: Result<MessageProperties, Refusal>
        var body: ByteBuffer
    }

    /// Why a message with valid frames is not accepted.
    enum Refusal: Error, Equatable, CustomStringConvertible {
        case properties(RefusedProperties)
        case tooLarge(bytes: UInt64, limit: Int, MessageProperties?)

        /// The properties that could be read nevertheless.
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

    /// Frames in an order that violates the protocol.
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

    /// - Parameter maximumBodySize: In bytes; the body of a larger message is discarded, and the message reported as refused.
    init(maximumBodySize: Int) {
        self.maximumBodySize = maximumBodySize
    }

    /// Whether the next frame may be a method.
    var isIdle: Bool {
        if case .idle = state { true } else { false }
    }

    /// Begins a message with a method that has content.
    mutating func begin(_ method: Method) throws(Violation) {
        guard case .idle = state else { throw Violation(description: "a method in the middle of a message") }
        state = .awaitingHeader(method)
    }

    /// Processes the header. Returns the message if it has no body.
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

    /// Processes a body frame. Returns the message if this completes it.
    mutating func body(_ bytes: ByteBuffer) throws(Violation) -> Content? {
        // Takes the references out of the state, so that nothing is copied.
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
