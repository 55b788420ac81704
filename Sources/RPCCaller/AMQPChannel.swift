import AMQPPool

/// A channel of AMQP, in files where NIO's `Channel` is in scope too.
typealias AMQPChannel = Channel
