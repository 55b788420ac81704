package import NIOCore

/// The decision about a delivery after an attempt to handle it.
package enum Disposition: Sendable {
    /// It is acknowledged.
    case acknowledge
    /// It goes to the queue's dead letter exchange, or is dropped if there is none. A message of a stream, which has neither, is skipped.
    case reject
    /// The broker redelivers it, to any consumer, after this delay.
    case requeue(after: Duration)
    /// It is retried here after this delay, and stays unacknowledged in the meantime.
    case retry(after: Duration)
    /// It is acknowledged once the broker has confirmed these copies. Publishing them is retried until then.
    indirect case forward(Forward)
    /// The decider settles the delivery itself: this closure is called once, if the delivery still belongs to this consumer.
    case settled(@Sendable () -> Void)
}

/// The decisions about the messages of a run, by index.
package struct Dispositions: Sendable, ExpressibleByArrayLiteral {
    var first: Disposition?
    var rest: [Disposition]

    package init(_ first: Disposition?, _ rest: [Disposition] = []) {
        self.first = first
        self.rest = rest
    }

    init(_ all: [Disposition]) {
        self.init(all.first, all.count > 1 ? Array(all.dropFirst()) : [])
    }

    package init(arrayLiteral elements: Disposition...) {
        self.init(elements)
    }
}

/// A message to publish instead of a delivered one.
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
