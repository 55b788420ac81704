/// The version of the package, used by the AMQP client properties, `rpc --version` and the documentation.
package enum LibraryVersion {
    /// A semantic version, for example `1.2.3`.
    package static let text = "0.1.0"
}
