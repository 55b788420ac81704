/// Decides whether a request may be answered, by its headers only, before anything else is read.
///
/// A page of another origin must not read or do anything here, even if its name was made to resolve to this address (DNS rebinding): the
/// `Host` must be an address or an allowed name, and the browser's origin headers must match it.
struct RequestCheck: Sendable {
    /// The relevant headers.
    struct Headers: Sendable {
        var host: String?
        var origin: String?
        var fetchSite: String?
        var fetchMode: String?
        var contentType: String?
        var authorization: String?
    }

    enum Kind: Sendable {
        /// The page itself, which may be opened by a link.
        case page
        case reading
        /// A query with a body.
        case question
        case action
    }

    enum Refusal: Error, Sendable, Equatable {
        case host
        case origin
        case contentType
        case actionsNotAllowed
        case token
    }

    let allowedHosts: Set<String>
    let permission: ObserverPermission

    init(allowedHosts: [String], permission: ObserverPermission) {
        self.allowedHosts = Set(allowedHosts.map { $0.lowercased() })
        self.permission = permission
    }

    func refusal(of headers: Headers, for kind: Kind) -> Refusal? {
        guard let host = headers.host, isAllowed(host: host) else { return .host }
        if let refusal = originRefusal(headers, kind, host) { return refusal }
        switch kind {
        case .page, .reading: return nil
        case .question: return isJSON(headers.contentType) ? nil : .contentType
        case .action:
            guard isJSON(headers.contentType) else { return .contentType }
            guard permission.allowsActions else { return .actionsNotAllowed }
            guard let token = bearer(headers.authorization), permission.isToken(token) else { return .token }
            return nil
        }
    }

    private func originRefusal(_ headers: Headers, _ kind: Kind, _ host: String) -> Refusal? {
        switch headers.fetchSite?.lowercased() {
        case nil, "same-origin", "none": break
        default:
            guard case .page = kind, headers.fetchMode?.lowercased() == "navigate" else { return .origin }
        }
        guard let origin = headers.origin else { return nil }
        // Also behind a proxy that terminates TLS.
        let lowered = origin.lowercased()
        return lowered == "http://\(host.lowercased())" || lowered == "https://\(host.lowercased())" ? nil : .origin
    }

    /// Addresses cannot be rebound, names can: only known names are allowed.
    func isAllowed(host: String) -> Bool {
        guard let name = Self.name(ofHost: host.lowercased()) else { return false }
        return name == "localhost" || Self.isAddress(name) || allowedHosts.contains(name)
    }

    /// The host without the port; `nil` when it is malformed.
    private static func name(ofHost host: String) -> String? {
        guard !host.isEmpty, host.utf8.count <= 255 else { return nil }
        let name: Substring
        let rest: Substring
        if host.hasPrefix("[") {
            guard let end = host.firstIndex(of: "]") else { return nil }
            name = host[...end]
            rest = host[host.index(after: end)...]
        } else {
            name = host.prefix { $0 != ":" }
            rest = host[name.endIndex...]
        }
        guard !name.isEmpty else { return nil }
        if rest.isEmpty { return String(name) }
        guard rest.first == ":", rest.dropFirst().allSatisfy({ $0.isASCII && $0.isNumber }) else { return nil }
        return String(name)
    }

    private static func isAddress(_ name: String) -> Bool {
        if name.hasPrefix("["), name.hasSuffix("]") {
            return name.dropFirst().dropLast().allSatisfy { $0.isHexDigit || $0 == ":" || $0 == "." }
                && name.contains(":")
        }
        let parts = name.split(separator: ".", omittingEmptySubsequences: false)
        return parts.count == 4
            && parts.allSatisfy { part in
                (1...3).contains(part.count) && part.allSatisfy { $0.isASCII && $0.isNumber }
                    && (Int(part) ?? 256) < 256
            }
    }

    private func isJSON(_ contentType: String?) -> Bool {
        let type = contentType?.prefix { $0 != ";" }.lowercased()
        return type.map { $0.filter { $0 != " " } } == "application/json"
    }

    private func bearer(_ authorization: String?) -> String? {
        guard let authorization, authorization.lowercased().hasPrefix("bearer ") else { return nil }
        return String(authorization.dropFirst("bearer ".count))
    }
}

extension RequestCheck.Refusal {
    var status: Int {
        switch self {
        case .host, .origin, .actionsNotAllowed: 403
        case .contentType: 415
        case .token: 401
        }
    }

    /// The remedy.
    var message: String {
        switch self {
        case .host: "the observer does not answer to this name: add it to allowedHosts, or use the address"
        case .origin: "the request comes from a page of another origin"
        case .contentType: "the content type must be application/json"
        case .actionsNotAllowed: "this observer is read-only: it was not started with allowing: .actions(token)"
        case .token: "actions need the observer's token, as 'Authorization: Bearer TOKEN'"
        }
    }
}
