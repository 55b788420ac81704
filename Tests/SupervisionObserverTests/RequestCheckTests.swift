import Testing

@testable import SupervisionObserver

@Suite("Which requests the observer answers")
struct RequestCheckTests {
    private static let token = "0123456789abcdef"
    private let reading = RequestCheck(allowedHosts: ["Watch.example"], permission: .reading)
    private let acting = RequestCheck(allowedHosts: ["watch.example"], permission: .actions(token))

    private func headers(
        host: String? = "127.0.0.1:9570",
        origin: String? = nil,
        site: String? = nil,
        mode: String? = nil,
        type: String? = "application/json",
        authorization: String? = nil
    ) -> RequestCheck.Headers {
        .init(
            host: host,
            origin: origin,
            fetchSite: site,
            fetchMode: mode,
            contentType: type,
            authorization: authorization
        )
    }

    @Test(
        "a name that is not known is refused, as DNS rebinding would have it; addresses and allowed names are not",
        arguments: [
            ("127.0.0.1:9570", true), ("127.0.0.1", true), ("localhost:1", true), ("LOCALHOST", true),
            ("[::1]:9570", true),
            ("[::1]", true), ("10.1.2.3:80", true), ("watch.example", true), ("WATCH.example:443", true),
            ("evil.example", false), ("evil.example:9570", false), ("127.0.0.1.evil.example", false),
            ("watch.example.evil", false),
            ("localhost.evil.example", false), ("", false), (":80", false), ("127.0.0.1:80:80", false),
            ("127.0.0.1:x", false),
            ("[::1", false), ("[evil]", false), ("[::1]evil", false), ("256.1.1.1", false), ("1.2.3", false),
            ("0x7f.0.0.1", false),
            ("user@127.0.0.1", false),
        ]
    )
    func hosts(host: String, isAllowed: Bool) {
        let refusal = reading.refusal(of: headers(host: host), for: .reading)
        #expect((refusal == nil) == isAllowed)
        #expect(acting.refusal(of: headers(host: host), for: .action) == (isAllowed ? .token : .host))
    }

    @Test("a request without a host is refused")
    func noHost() {
        #expect(reading.refusal(of: headers(host: nil), for: .page) == .host)
    }

    @Test(
        "pages of other origins neither read nor act, and a link may open the page",
        arguments: [
            RequestCheck.Kind.page, .reading, .question, .action,
        ]
    )
    func origins(kind: RequestCheck.Kind) {
        let authorization = "Bearer \(Self.token)"
        func refusal(origin: String? = nil, site: String? = nil, mode: String? = nil) -> RequestCheck.Refusal? {
            acting.refusal(
                of: headers(origin: origin, site: site, mode: mode, authorization: authorization),
                for: kind
            )
        }
        #expect(refusal() == nil)
        #expect(refusal(origin: "http://127.0.0.1:9570", site: "same-origin") == nil)
        #expect(refusal(origin: "https://127.0.0.1:9570") == nil)
        #expect(refusal(site: "none", mode: "navigate") == nil)
        #expect(refusal(origin: "http://evil.example") == .origin)
        #expect(refusal(origin: "http://127.0.0.1:9571") == .origin)
        #expect(refusal(origin: "null") == .origin)
        #expect(refusal(site: "cross-site", mode: "cors") == .origin)
        #expect(refusal(site: "same-site", mode: "no-cors") == .origin)
        let isPage = if case .page = kind { true } else { false }
        #expect((refusal(site: "cross-site", mode: "navigate") == nil) == isPage)
    }

    @Test(
        "what has a body must be JSON, which a form of another page cannot send",
        arguments: [
            ("application/json", true), ("application/json; charset=utf-8", true), ("Application/JSON", true),
            ("text/plain", false), ("application/x-www-form-urlencoded", false), ("multipart/form-data", false),
            ("", false),
            ("text/plain; application/json", false),
        ]
    )
    func contentTypes(type: String, isAllowed: Bool) {
        #expect((reading.refusal(of: headers(type: type), for: .question) == nil) == isAllowed)
        let action = acting.refusal(of: headers(type: type, authorization: "Bearer \(Self.token)"), for: .action)
        #expect((action == nil) == isAllowed)
    }

    @Test(
        "an action needs the token, and without one that was given nobody acts",
        arguments: [
            (nil, false), ("", false), ("Bearer ", false), ("Bearer 0123456789abcde", false),
            ("Bearer 0123456789abcdeg", false),
            ("Bearer 0123456789abcdef0", false), ("Bearer 0123456789abcdef0123456789abcdef", false),
            ("0123456789abcdef", false),
            ("Basic 0123456789abcdef", false), ("Bearer 0123456789abcdef", true), ("bearer 0123456789abcdef", true),
        ] as [(String?, Bool)]
    )
    func tokens(authorization: String?, isAllowed: Bool) {
        let refusal = acting.refusal(of: headers(authorization: authorization), for: .action)
        #expect(refusal == (isAllowed ? nil : .token))
        #expect(reading.refusal(of: headers(authorization: authorization), for: .action) == .actionsNotAllowed)
    }

    @Test(
        "a token that is too short lets nobody in, and is a mistake that is told",
        arguments: [
            "", "short", "with a space 1234", "with\u{0}zero12345678", "ümläut-12345678",
        ]
    )
    func badTokens(token: String) {
        let permission = ObserverPermission.actions(token)
        #expect(permission.problem != nil)
        #expect(!permission.isToken(token))
        var configuration = ObserverConfiguration()
        configuration.permission = permission
        #expect(configuration.problem == permission.problem)
    }

    @Test("a token is printed nowhere")
    func secrecy() {
        let permission = ObserverPermission.actions(Self.token)
        var configuration = ObserverConfiguration()
        configuration.permission = permission
        var dumped = ""
        dump(configuration, to: &dumped)
        for text in [
            "\(permission)", String(reflecting: permission), "\(configuration)", String(reflecting: configuration),
            dumped,
        ] {
            #expect(!text.contains(Self.token))
            #expect(!text.contains("48, 49, 50"))
        }
    }
}
