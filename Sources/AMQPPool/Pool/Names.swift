/// ``Channel``, for files that import NIOCore too, which has a `Channel` of its own.
public typealias AMQPChannel = Channel

/// ``Connection``, for files that import another module with a `Connection`.
public typealias AMQPConnection = Connection

extension AMQPPool {
    /// ``Channel``. `AMQPPool.Channel` names it wherever `Channel` alone is ambiguous.
    public typealias Channel = AMQPChannel
    /// ``Connection``. `AMQPPool.Connection` names it wherever `Connection` alone is ambiguous.
    public typealias Connection = AMQPConnection
}
