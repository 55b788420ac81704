/// What viewers may do.
public struct ObserverPermission: Sendable, CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    private enum Kind: Sendable {
        case reading
        case actions(token: [UInt8])
    }

    private let kind: Kind

    /// View only.
    public static let reading = ObserverPermission(kind: .reading)

    /// Viewers with the token may kill, exit, restart and terminate processes, pause workers, and run the kill matrix on trees that allow
    /// it.
    ///
    /// - Parameter token: At least 16 bytes, without spaces: with a shorter one, everybody is refused and the observer does not start.
    public static func actions(_ token: String) -> ObserverPermission {
        ObserverPermission(kind: .actions(token: Array(token.utf8)))
    }

    /// Without the token.
    public var description: String {
        switch kind {
        case .reading: "reading"
        case .actions: "actions with a token"
        }
    }

    /// Without the token.
    public var debugDescription: String { description }

    /// Without the token.
    public var customMirror: Mirror { Mirror(self, children: []) }
}

extension ObserverPermission {
    static let shortestToken = 16

    var allowsActions: Bool {
        switch kind {
        case .reading: false
        case .actions: true
        }
    }

    /// The problem with the token, `nil` if it is valid.
    var problem: String? {
        guard case .actions(let token) = kind else { return nil }
        if token.count < Self.shortestToken {
            return "the token for actions must have at least \(Self.shortestToken) bytes, and has \(token.count)"
        }
        if token.contains(where: { $0 <= 0x20 || $0 >= 0x7F }) {
            return "the token for actions must be of ASCII letters, digits and signs, without spaces"
        }
        return nil
    }

    /// Whether this is the token. Takes constant time for texts of the same length, so that timing does not reveal how much of it is
    /// correct.
    func isToken(_ text: String) -> Bool {
        guard problem == nil, case .actions(let token) = kind else { return false }
        let given = Array(text.utf8)
        var difference = UInt8(given.count == token.count ? 0 : 1)
        for index in given.indices {
            difference |= given[index] ^ token[index % token.count]
        }
        return difference == 0
    }
}
