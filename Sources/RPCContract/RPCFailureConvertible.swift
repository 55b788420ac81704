/// An error that says itself what a caller learns of it, when a handler throws it.
///
///     struct OutOfStock: Error, RPCFailureConvertible {
///         var left: Int
///         var rpcFailure: RPCFailure {
///             RPCFailure(code: "out_of_stock", message: "only \(left) left", details: ["left": .integer(Int64(left))])
///         }
///     }
///
/// An error that is neither this nor an ``RPCFailure`` stays with the receiver: its caller gets `internal`.
public protocol RPCFailureConvertible: Error {
    /// What is sent to the caller.
    var rpcFailure: RPCFailure { get }
    /// The failure of another service that this error only carries, for receivers that hand such failures on as they are. The default is
    /// `nil`.
    var upstreamFailure: RPCFailure? { get }
}

extension RPCFailureConvertible {
    /// None.
    public var upstreamFailure: RPCFailure? { nil }
}
