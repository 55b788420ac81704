/// The version of the package: the AMQP client properties, `rpc --version` and the documentation have it from here.
package enum LibraryVersion {
    /// A semantic version, as `1.2.3`.
    package static let text = "0.1.0"
}
