import NIOCore
import Synchronization

/// The page, one file.
enum ObserverPage {
    private static let placeholder = "NONCE"

    /// Its parts around the places for the response's nonce.
    private static let parts: [String] = {
        let html = String(decoding: PackageResources.observer_html, as: UTF8.self)
        return html.split(separator: "{{\(placeholder)}}", omittingEmptySubsequences: false).map(String.init)
    }()

    static func html(nonce: String) -> ByteBuffer {
        ByteBuffer(string: parts.joined(separator: nonce))
    }
}

/// A flag that is set once.
final class Once: Sendable {
    private let isDone = Atomic(false)

    /// Whether this is the first call.
    func set() -> Bool { !isDone.exchange(true, ordering: .acquiringAndReleasing) }
}
