package import NIOCore

/// What becomes of a delivery after an attempt to handle it.
package enum Disposition: Sendable {
    /// It is done with.
    case acknowledge
    /// It goes to the queue's dead letter exchange, or is dropped where there is none. A stream has neither: there it is passed.
    case reject
    /// The broker delivers it again, to anybody, after this pause.
    case requeue(after: Duration)
    /// It is tried again here, after this pause. It stays unacknowledged meanwhile.
    case retry(after: Duration)
    /// It is acknowledged once the broker has confirmed these copies. Until then publishing is tried again.
    indirect case forward(Forward)
    /// Whoever decided tells the broker himself, in his own way: this is called once, if the delivery is still ours then.
    case settled(@Sendable () -> Void)
}

/// What becomes of the messages of a run, by their place in it.
package struct Dispositions: Sendable, ExpressibleByArrayLiteral {
    package var first: Disposition?
    package var rest: [Disposition]

    package init(_ first: Disposition?, _ rest: [Disposition] = []) {
        self.first = first
        self.rest = rest
    }

    package init(_ all: [Disposition]) {
        self.init(all.first, all.count > 1 ? Array(all.dropFirst()) : [])
    }

    package init(arrayLiteral elements: Disposition...) {
        self.init(elements)
    }
}

/// A message to publish in place of one that was delivered.
package struct Forward: Sendable {
    package var exchange: String
    package var routingKey: String
    package var properties: MessageProperties
    package var body: ByteBuffer

    package init(exchange: String, routingKey: String, properties: MessageProperties, body: ByteBuffer) {
        self.exchange = exchange
        self.routingKey = routingKey
        self.properties = properties
        self.body = body
    }
}
