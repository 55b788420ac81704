/// The parts of a URI, with the defaults for those that are absent.
struct EndpointParts {
    var tls = false
    var host = "localhost"
    var port: Int?
    var virtualHost = "/"
    var username = "guest"
    var password = "guest"
    var heartbeat: Duration?
    var connectionTimeout: Duration?
    var channelMax: UInt16?
    var security = EndpointSecurity()

    /// Why these parts are invalid, however they were written; `nil` if they are valid.
    var error: EndpointError? {
        if username.utf8.contains(0) { return .containsNUL(.username) }
        if password.utf8.contains(0) { return .containsNUL(.password) }
        if virtualHost.utf8.contains(0) { return .containsNUL(.virtualHost) }
        if virtualHost.hasLineBreak { return .containsLineBreak(.virtualHost) }
        if host.hasLineBreak { return .containsLineBreak(.host) }
        let bytes = virtualHost.utf8.count
        if bytes > 255 { return .virtualHostTooLong(bytes: bytes, limit: 255) }
        if let port, !(1...65_535).contains(port) { return .invalidPort(String(port)) }
        let forbidden = " /?#@[]\\<>^`{|}\"%"
        let isAddress = host.contains(":")
        if host.isEmpty || host.unicodeScalars.contains(where: { $0.value <= 32 || $0.value == 127 })
            || (!isAddress && host.contains(where: forbidden.contains))
            || (isAddress && !Self.isIPv6(host))
        {
            return .invalidHost(host)
        }
        return nil
    }

    /// Whether this may be an IPv6 address, optionally with a zone: the resolver decides.
    private static func isIPv6(_ host: String) -> Bool {
        let parts = host.split(separator: "%", maxSplits: 1, omittingEmptySubsequences: false)
        guard let address = parts.first, address.count >= 2 else { return false }
        return address.allSatisfy { $0.isASCII && ($0.isHexDigit || $0 == ":" || $0 == ".") }
    }
}

/// Parses a URI according to RabbitMQ's URI specification, but more strictly where laxness could reveal a password.
///
/// A password with an unencoded `/`, `?`, `#` or `@` would be split, and its rest parsed as host, port, virtual host or parameter, which
/// errors and logs show. Wherever it is split, a `@` follows: so a second `@`, and one outside the authority, are rejected first, before
/// anything can be quoted. Everything that is quoted afterwards comes after the `@`.
struct EndpointParser {
    private let url: String
    private var parts = EndpointParts()
    private var seen: Set<String> = []

    init(_ url: String) {
        self.url = url
    }

    /// Parses the URI.
    mutating func parse() throws(EndpointError) -> EndpointParts {
        let rest = try scheme()
        // From here on a character is a byte: no combining mark can hide a separator.
        guard url.utf8.allSatisfy({ (33...126).contains($0) }) else { throw .invalidCharacter }
        let end = rest.firstIndex { "/?#".contains($0) } ?? rest.endIndex
        let authority = rest[..<end]
        let tail = rest[end...]
        guard authority.count(where: { $0 == "@" }) <= 1, !tail.contains("@") else { throw .ambiguousAt }
        guard !tail.contains("#") else { throw .fragment }

        try self.authority(authority)
        let pathAndQuery = tail.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        if let path = pathAndQuery.first, path.first == "/" { try virtualHost(path.dropFirst()) }
        if pathAndQuery.count > 1 { try query(pathAndQuery[1]) }
        if parts.security.keyFile != nil, parts.security.certificateFile == nil {
            throw .parameterNeeds("keyfile", "certfile")
        }
        if let error = parts.error { throw error }
        return parts
    }

    private mutating func scheme() throws(EndpointError) -> Substring {
        for (scheme, tls) in [("amqp://", false), ("amqps://", true)]
        where url.prefix(scheme.count).lowercased() == scheme {
            parts.tls = tls
            return url.dropFirst(scheme.count)
        }
        throw .unsupportedScheme
    }

    private mutating func authority(_ authority: Substring) throws(EndpointError) {
        guard let at = authority.firstIndex(of: "@") else { return try hostAndPort(authority) }
        let user = authority[..<at].split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        if let name = user.first, !(user.count == 1 && name.isEmpty) { parts.username = try decode(name, .username) }
        if user.count > 1 { parts.password = try decode(user[1], .password) }
        try hostAndPort(authority[authority.index(after: at)...])
    }

    private mutating func hostAndPort(_ text: Substring) throws(EndpointError) {
        var host = text
        var port: Substring?
        if text.first == "[" {
            guard let close = text.firstIndex(of: "]") else { throw .invalidHost(String(text)) }
            host = text[text.index(after: text.startIndex)..<close]
            let rest = text[text.index(after: close)...]
            guard rest.isEmpty || rest.first == ":", host.contains(":") else { throw .invalidHost(String(text)) }
            if !rest.isEmpty { port = rest.dropFirst() }
        } else if let colon = text.firstIndex(of: ":") {
            host = text[..<colon]
            port = text[text.index(after: colon)...]
            guard port?.contains(":") != true else { throw .invalidHost(String(text)) }
        }
        if !host.isEmpty { parts.host = try decode(host, .host) }
        if text.first != "[", parts.host.contains(":") { throw .invalidHost(parts.host) }
        if let port, !port.isEmpty {
            guard let number = decimal(port, in: 1...65_535) else { throw .invalidPort(String(port)) }
            parts.port = number
        }
    }

    private mutating func virtualHost(_ path: Substring) throws(EndpointError) {
        guard !path.contains("/") else { throw .slashInVirtualHost }
        parts.virtualHost = try decode(path, .virtualHost)
    }

    private mutating func query(_ query: Substring) throws(EndpointError) {
        for parameter in query.split(separator: "&") {
            let pair = parameter.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let name = try decode(pair.first ?? "", .parameter)
            let value = pair.count > 1 ? try decode(pair[1], .parameter) : ""
            try self.parameter(name, value)
            guard seen.insert(name).inserted || name == "auth_mechanism" else { throw .repeatedParameter(name) }
        }
    }

    private mutating func parameter(_ name: String, _ value: String) throws(EndpointError) {
        switch name {
        case "heartbeat":
            parts.heartbeat = .seconds(try number(name, value, upTo: 65_535, "a number of seconds from 0 to 65535"))
        case "connection_timeout":
            let milliseconds = try number(name, value, upTo: Int(Int32.max), "a number of milliseconds from 1")
            guard milliseconds > 0 else {
                throw .invalidParameter(name: name, expected: "a number of milliseconds from 1")
            }
            parts.connectionTimeout = .milliseconds(milliseconds)
        case "channel_max":
            parts.channelMax = UInt16(try number(name, value, upTo: 65_535, "a number from 0 to 65535"))
        case "auth_mechanism":
            guard !value.isEmpty else { throw .invalidParameter(name: name, expected: "plain or external") }
            parts.security.mechanisms.append(value.lowercased())
        case "verify", "cacertfile", "certfile", "keyfile", "server_name_indication":
            guard parts.tls else { throw .parameterNeedsTLS(name) }
            guard !value.isEmpty else { throw .invalidParameter(name: name, expected: "given") }
            try securityParameter(name, value)
        default:
            throw .unknownParameter(name)
        }
    }

    private mutating func securityParameter(_ name: String, _ value: String) throws(EndpointError) {
        switch (name, value) {
        case ("verify", "verify_peer"): parts.security.verifyPeer = true
        case ("verify", "verify_none"): parts.security.verifyPeer = false
        case ("verify", _): throw .invalidParameter(name: name, expected: "verify_peer or verify_none")
        case ("cacertfile", _): parts.security.caCertificateFile = value
        case ("certfile", _): parts.security.certificateFile = value
        case ("keyfile", _): parts.security.keyFile = value
        // Erlang's client interprets this as: the certificate may have any name.
        case (_, "disable"): throw .invalidParameter(name: name, expected: "a host name")
        default: parts.security.serverName = value
        }
    }

    private func number(
        _ name: String,
        _ value: String,
        upTo limit: Int,
        _ expected: String
    ) throws(EndpointError) -> Int {
        guard let number = decimal(value[...], in: 0...limit) else {
            throw .invalidParameter(name: name, expected: expected)
        }
        return number
    }

    /// Parses decimal digits only: `Int` would accept a sign.
    private func decimal(_ text: Substring, in range: ClosedRange<Int>) -> Int? {
        guard text.allSatisfy({ $0.isASCII && $0.isNumber }), let number = Int(text), range.contains(number) else {
            return nil
        }
        return number
    }

    private func decode(_ text: Substring, _ part: EndpointPart) throws(EndpointError) -> String {
        guard text.contains("%") else { return String(text) }
        var bytes: [UInt8] = []
        var rest = text.utf8
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard let high = rest.popFirst().flatMap(hexadecimal), let low = rest.popFirst().flatMap(hexadecimal) else {
                throw .invalidPercentEncoding(part)
            }
            bytes.append(high << 4 | low)
        }
        guard let decoded = String(validating: bytes, as: UTF8.self) else { throw .invalidPercentEncoding(part) }
        return decoded
    }

    private func hexadecimal(_ digit: UInt8) -> UInt8? {
        switch digit {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): digit - UInt8(ascii: "A") + 10
        default: nil
        }
    }
}
