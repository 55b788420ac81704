import Testing

@testable import AMQPPool

/// A URI and what it means.
struct EndpointCase: Sendable, CustomTestStringConvertible {
    var url: String
    var username = "guest"
    var password = "guest"
    var host = "localhost"
    var port = 5672
    var virtualHost = "/"
    var tls = false

    var testDescription: String { url }
}

@Suite("An endpoint is a RabbitMQ URI")
struct EndpointTests {
    static let valid: [EndpointCase] = [
        // The examples of the specification's appendix.
        .init(
            url: "amqp://user:pass@host:10000/vhost",
            username: "user",
            password: "pass",
            host: "host",
            port: 10_000,
            virtualHost: "vhost"
        ),
        .init(
            url: "amqp://user%61:%61pass@ho%61st:10000/v%2fhost",
            username: "usera",
            password: "apass",
            host: "hoast",
            port: 10_000,
            virtualHost: "v/host"
        ),
        .init(url: "amqp://"),
        .init(url: "amqp://:@/", username: "", password: "", virtualHost: ""),
        .init(url: "amqp://user@", username: "user"),
        .init(url: "amqp://user:pass@", username: "user", password: "pass"),
        .init(url: "amqp://host", host: "host"),
        .init(url: "amqp://:10000", port: 10_000),
        .init(url: "amqp:///vhost", virtualHost: "vhost"),
        .init(url: "amqp://host/", host: "host", virtualHost: ""),
        .init(url: "amqp://host/%2f", host: "host"),
        .init(url: "amqp://[::1]", host: "::1"),
        // More.
        .init(url: "amqp://guest:guest@127.0.0.1:5672", host: "127.0.0.1"),
        .init(url: "AMQP://host", host: "host"),
        .init(url: "amqps://host", host: "host", port: 5671, tls: true),
        .init(url: "amqps://host:5672/%2F", host: "host", tls: true),
        .init(url: "amqp://host:/v", host: "host", virtualHost: "v"),
        .init(url: "amqp://[::1]:5673/v", host: "::1", port: 5673, virtualHost: "v"),
        .init(url: "amqp://u:p@[fe80::1%25eth0]", username: "u", password: "p", host: "fe80::1%eth0"),
        .init(url: "amqp://u:@host", username: "u", password: "", host: "host"),
        .init(url: "amqp://u:p:q@host", username: "u", password: "p:q", host: "host"),
        .init(url: "amqp://u%40corp:p%40%2F%3F%23%3A%25@host", username: "u@corp", password: "p@/?#:%", host: "host"),
        .init(url: "amqp://gr%C3%BC%C3%9Fe@host/%E4%B8%96", username: "grüße", host: "host", virtualHost: "世"),
        .init(url: "amqp://a+b:c+d@host", username: "a+b", password: "c+d", host: "host"),
        .init(url: "amqp://rabbit_1.local-net", host: "rabbit_1.local-net"),
        .init(url: "amqp://host?heartbeat=5", host: "host"),
        .init(url: "amqp://host/?heartbeat=5", host: "host", virtualHost: ""),
    ]

    @Test("each part is what the URI says, or its default", arguments: valid)
    func parts(_ expected: EndpointCase) throws {
        let endpoint = try Endpoint(url: expected.url)
        #expect(endpoint.username == expected.username)
        #expect(endpoint.password == expected.password)
        #expect(endpoint.host == expected.host)
        #expect(endpoint.port == expected.port)
        #expect(endpoint.virtualHost == expected.virtualHost)
        #expect(endpoint.tls == expected.tls)
        #expect(endpoint.error == nil)
        #expect(Endpoint(stringLiteral: expected.url) == endpoint)
    }

    @Test("its description is a URI of the same host and virtual host", arguments: valid)
    func description(_ expected: EndpointCase) throws {
        let endpoint = try Endpoint(url: expected.url)
        for text in [endpoint.description, endpoint.redacted] {
            let again = try Endpoint(url: text)
            #expect(again.host == endpoint.host)
            #expect(again.port == endpoint.port)
            #expect(again.virtualHost == endpoint.virtualHost)
            #expect(again.tls == endpoint.tls)
        }
        #expect(try Endpoint(url: endpoint.description).username == endpoint.username)
    }

    @Test(
        "what is wrong is named",
        arguments: [
            ("", .unsupportedScheme),
            ("host:5672", .unsupportedScheme),
            ("amqp:host", .unsupportedScheme),
            ("http://host", .unsupportedScheme),
            ("amqp://host\n", .invalidCharacter),
            ("amqp://ho st", .invalidCharacter),
            ("amqp://u:p@\u{301}ss@host", .invalidCharacter),
            ("amqp://hösť", .invalidCharacter),
            ("amqp://u:p@ss@host", .ambiguousAt),
            ("amqp://u:p/ss@host", .ambiguousAt),
            ("amqp://u:12/ss@host", .ambiguousAt),
            ("amqp://u:12?ss@host", .ambiguousAt),
            ("amqp://u:12#ss@host", .ambiguousAt),
            ("amqp://host/#", .fragment),
            ("amqp://%zz@host", .invalidPercentEncoding(.username)),
            ("amqp://u:%4@host", .invalidPercentEncoding(.password)),
            ("amqp://u:%@host", .invalidPercentEncoding(.password)),
            ("amqp://u:%FF@host", .invalidPercentEncoding(.password)),
            ("amqp://host/%C3", .invalidPercentEncoding(.virtualHost)),
            ("amqp://host?heartbeat=%", .invalidPercentEncoding(.parameter)),
            ("amqp://u%00:p@host", .containsNUL(.username)),
            ("amqp://u:p%00@host", .containsNUL(.password)),
            ("amqp://host/%00", .containsNUL(.virtualHost)),
            ("amqp://::1", .invalidHost("::1")),
            ("amqp://[::1", .invalidHost("[::1")),
            ("amqp://[::1]x", .invalidHost("[::1]x")),
            ("amqp://[host]", .invalidHost("[host]")),
            ("amqp://[::g]", .invalidHost("::g")),
            ("amqp://ho%20st", .invalidHost("ho st")),
            ("amqp://ho%2Fst", .invalidHost("ho/st")),
            ("amqp://host%3A1", .invalidHost("host:1")),
            ("amqp://host:port", .invalidPort("port")),
            ("amqp://host:0", .invalidPort("0")),
            ("amqp://host:65536", .invalidPort("65536")),
            ("amqp://host:-1", .invalidPort("-1")),
            ("amqp://host:+1", .invalidPort("+1")),
            ("amqp://host:99999999999999999999", .invalidPort("99999999999999999999")),
            ("amqp://host//", .slashInVirtualHost),
            ("amqp://host/a/b", .slashInVirtualHost),
            ("amqp://host?heartbet=5", .unknownParameter("heartbet")),
            ("amqp://host?heartbeat=5&heartbeat=6", .repeatedParameter("heartbeat")),
            ("amqp://host?verify=verify_none", .parameterNeedsTLS("verify")),
            ("amqp://host?cacertfile=/ca.pem", .parameterNeedsTLS("cacertfile")),
        ] as [(String, EndpointError)]
    )
    func errors(_ url: String, _ expected: EndpointError) {
        #expect(throws: expected) { try Endpoint(url: url) }
        #expect(Endpoint(stringLiteral: url).error == expected)
        #expect(throws: expected) { try Endpoint(stringLiteral: url).checkConnectable() }
        #expect(!expected.description.isEmpty)
    }

    @Test(
        "a parameter's value is checked",
        arguments: [
            "heartbeat=", "heartbeat", "heartbeat=-1", "heartbeat=1.5", "heartbeat=65536", "connection_timeout=0",
            "connection_timeout=soon", "channel_max=65536", "verify=maybe", "certfile=", "auth_mechanism=",
        ]
    )
    func parameterValues(_ query: String) {
        let error = #expect(throws: EndpointError.self) { try Endpoint(url: "amqps://host?\(query)") }
        guard case .invalidParameter(let name, _)? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(query.hasPrefix(name))
    }

    @Test("query parameters are taken")
    func parameters() throws {
        let endpoint = try Endpoint(
            url: "amqps://host/%2f?heartbeat=15&connection_timeout=2500&channel_max=64&verify=verify_none"
                + "&cacertfile=%2Fca.pem&certfile=/c.pem&keyfile=/k.pem&server_name_indication=rabbit.example"
                + "&auth_mechanism=EXTERNAL&auth_mechanism=plain"
        )
        #expect(endpoint.heartbeat == .seconds(15))
        #expect(endpoint.connectionTimeout == .milliseconds(2500))
        #expect(endpoint.channelMax == 64)
        #expect(
            endpoint.security
                == EndpointSecurity(
                    verifyPeer: false,
                    caCertificateFile: "/ca.pem",
                    certificateFile: "/c.pem",
                    keyFile: "/k.pem",
                    serverName: "rabbit.example",
                    mechanisms: ["external", "plain"]
                )
        )
        let plain = try Endpoint(url: "amqp://host?heartbeat=0")
        #expect(plain.heartbeat == .zero)
        #expect(plain.connectionTimeout == nil)
        #expect(plain.channelMax == nil)
    }

    @Test("what this version cannot do is an error before connecting, not plain text")
    func unavailable() throws {
        try Endpoint(url: "amqp://host?auth_mechanism=external&auth_mechanism=plain").checkConnectable()
        try Endpoint(url: "amqps://user:secret@host").checkConnectable()
        #expect(throws: EndpointError.parameterNeeds("keyfile", "certfile")) {
            try Endpoint(url: "amqps://host?keyfile=key.pem")
        }
        #expect(throws: EndpointError.self) { try Endpoint(url: "amqps://host?server_name_indication=disable") }
        try Endpoint(url: "amqp://host?auth_mechanism=external").checkConnectable()
        #expect(throws: EndpointError.mechanismNotAvailable("amqplain")) {
            try Endpoint(url: "amqp://host?auth_mechanism=amqplain").checkConnectable()
        }
    }

    @Test("parts are taken as they are, and an unusable one is kept as the error")
    func memberwise() throws {
        let endpoint = Endpoint(host: "::1", port: 1, virtualHost: "a/b", username: "u@x", password: "p:/?#@%")
        #expect(endpoint.password == "p:/?#@%")
        #expect(endpoint.description == "amqp://u%40x@[::1]:1/a%2Fb")
        try endpoint.checkConnectable()
        #expect(Endpoint(host: "").error == .invalidHost(""))
        #expect(Endpoint(host: "h", port: 0).error == .invalidPort("0"))
        #expect(Endpoint(host: "h", password: "\0").error == .containsNUL(.password))
        let long = String(repeating: "ü", count: 128)
        #expect(Endpoint(host: "h", virtualHost: long).error == .virtualHostTooLong(bytes: 256, limit: 255))
        #expect(Endpoint(host: "h", virtualHost: String(long.dropLast())).error == nil)
    }

    @Test(
        "neither an endpoint nor an error shows a password, also one that is not encoded",
        arguments: [
            "amqp://user:SECRET@host", "amqps://user:SECRET@host/v?verify=verify_peer", "amqp://user:SEC@RET@host",
            "amqp://user:SEC/RET@host", "amqp://user:SEC?RET@host", "amqp://user:SEC#RET@host", "user:SECRET@host",
            "amqp://user:SEC%ZZRET@host", "amqp://user:SECRET%00@host", "amqp://user:SECRET@host:port",
            "amqp://user:SECRET@ho%20st", "amqp://user:SECRET@host/a/b", "amqp://user:SECRET@host?RETRY=1",
            "amqp://user:SECRET @host", "SECRET://user:SECRET@host", "amqp://user:SECRET@[::1", "amqp://:SECRET@host",
            "amqp://user:SEC@\u{301}RET", "amqp://user:1?SEC&RET=@host",
        ]
    )
    func secrecy(_ url: String) {
        let endpoint = Endpoint(stringLiteral: url)
        var dumped = ""
        dump(endpoint, to: &dumped)
        var shown = ["\(endpoint)", endpoint.debugDescription, endpoint.redacted, dumped, String(reflecting: endpoint)]
        do {
            try Endpoint(url: url).checkConnectable()
        } catch {
            shown += ["\(error)", String(reflecting: error)]
        }
        for text in shown {
            #expect(!text.contains("SEC"))
            #expect(!text.contains("RET@"))
        }
    }

    @Test("the redacted form has no user either")
    func redacted() throws {
        #expect(try Endpoint(url: "amqp://admin:x@host").redacted == "amqp://host:5672")
        #expect(try Endpoint(url: "amqp://admin:x@host").description == "amqp://admin@host:5672")
        #expect(try Endpoint(url: "amqp://host/").redacted == "amqp://host:5672/")
    }

    @Test("endpoints can be written as a list of literals")
    func literals() {
        let endpoints: [Endpoint] = ["amqp://guest:guest@127.0.0.1:5672", "amqp://other"]
        #expect(endpoints.map(\.host) == ["127.0.0.1", "other"])
    }
}
