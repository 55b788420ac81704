/// An error that defines the failure that a caller gets when a handler throws it.
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
    /// The failure for the caller.
    var rpcFailure: RPCFailure { get }
    /// The failure of another service that this error wraps, for receivers that pass such failures on. The default is `nil`.
    var upstreamFailure: RPCFailure? { get }
}

extension RPCFailureConvertible {
    /// No failure.
    public var upstreamFailure: RPCFailure? { nil }
}
