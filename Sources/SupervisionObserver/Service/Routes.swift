#if Observer
import Foundation
import HTTPTypes
import Hummingbird
import NIOCore

/// The page, its documents, and the event stream.
struct Routes: Sendable {
    static let maximumBody = 256 * 1024

    private let observation: Observation
    private let actions: Actions
    private let check: RequestCheck

    init(observation: Observation, actions: Actions, configuration: ObserverConfiguration) {
        self.observation = observation
        self.actions = actions
        check = RequestCheck(allowedHosts: configuration.hosts, permission: configuration.permission)
    }

    func add<Context: RequestContext>(to router: some RouterMethods<Context>) {
        router.get("") { request, _ in try page(request) }
        router.get("api/overview") { request, _ in
            try allow(request, .reading)
            return try json(observation.overview())
        }
        router.post("api/tree") { request, _ in
            let question: TreeRequest = try await body(of: request, .question)
            guard let page = observation.page(question) else { return Self.refuse(404, "there is no such tree") }
            return try json(page)
        }
        router.get("api/process") { request, _ in
            try allow(request, .reading)
            let tree = Self.number(request, "tree")
            let key = Self.parameter(request, "key") ?? ""
            guard let page = await observation.process(tree: tree ?? 0, key: key) else {
                return Self.refuse(404, "there is no such process any more")
            }
            return try json(page)
        }
        router.get("api/events") { request, _ in
            try allow(request, .reading)
            let page = observation.events(
                after: Self.number(request, "after").map { UInt64(clamping: $0) } ?? 0,
                tree: Self.number(request, "tree"),
                key: Self.parameter(request, "key"),
                limit: Self.number(request, "limit") ?? 200
            )
            return try json(page)
        }
        router.get("api/traffic") { request, _ in
            try allow(request, .reading)
            return try json(await observation.traffic())
        }
        router.get("api/workers") { request, _ in
            try allow(request, .reading)
            return try json(
                observation.workers(
                    query: Self.parameter(request, "query") ?? "",
                    offset: Self.number(request, "offset") ?? 0,
                    limit: Self.number(request, "limit") ?? 100
                )
            )
        }
        router.post("api/action") { request, _ in
            let action: ActionRequest = try await body(of: request, .action)
            do {
                return try json(try await actions.perform(action))
            } catch let refusal as Refusal {
                return Self.refuse(409, refusal.error)
            }
        }
        router.get("api/stream") { request, _ in
            try allow(request, .reading)
            return stream(after: Self.header(request, "Last-Event-ID").flatMap { UInt64($0) })
        }
    }

    // MARK: Checks

    private func allow(_ request: Request, _ kind: RequestCheck.Kind) throws {
        let headers = RequestCheck.Headers(
            host: request.head.authority,
            origin: Self.header(request, "Origin"),
            fetchSite: Self.header(request, "Sec-Fetch-Site"),
            fetchMode: Self.header(request, "Sec-Fetch-Mode"),
            contentType: Self.header(request, "Content-Type"),
            authorization: Self.header(request, "Authorization")
        )
        if let refusal = check.refusal(of: headers, for: kind) {
            throw HTTPRefusal(status: refusal.status, message: refusal.message)
        }
    }

    private func body<Document: Decodable>(of request: Request, _ kind: RequestCheck.Kind) async throws -> Document {
        try allow(request, kind)
        let buffer = try await request.body.collect(upTo: Self.maximumBody)
        do {
            return try JSONDecoder().decode(Document.self, from: Data(buffer.readableBytesView))
        } catch {
            throw HTTPRefusal(status: 400, message: "the request's body is invalid")
        }
    }

    private static func header(_ request: Request, _ name: String) -> String? {
        HTTPField.Name(name).flatMap { request.headers[$0] }
    }

    private static func parameter(_ request: Request, _ name: String) -> String? {
        request.uri.queryParameters[name[...]].map(String.init)
    }

    private static func number(_ request: Request, _ name: String) -> Int? {
        parameter(request, name).flatMap { Int($0) }
    }

    // MARK: Answers

    /// The headers of every response, which restrict what a browser may do with it.
    private static func headers(type: String, policy: String = "default-src 'none'; frame-ancestors 'none'")
        -> HTTPFields
    {
        var fields = HTTPFields()
        fields[.contentType] = type
        fields[.cacheControl] = "no-store"
        let more = [
            ("Content-Security-Policy", policy), ("X-Content-Type-Options", "nosniff"), ("X-Frame-Options", "DENY"),
            ("Referrer-Policy", "no-referrer"), ("Cross-Origin-Opener-Policy", "same-origin"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
        ]
        for (name, value) in more {
            if let name = HTTPField.Name(name) { fields[name] = value }
        }
        return fields
    }

    private func json(_ document: some Encodable) throws -> Response {
        Response(
            status: .ok,
            headers: Self.headers(type: "application/json"),
            body: ResponseBody(byteBuffer: ByteBuffer(bytes: try JSONEncoder().encode(document)))
        )
    }

    static func refuse(_ status: Int, _ message: String) -> Response {
        let body = (try? JSONEncoder().encode(Refusal(message))).map { ByteBuffer(bytes: $0) } ?? ByteBuffer()
        return Response(
            status: .init(code: status),
            headers: headers(type: "application/json"),
            body: ResponseBody(byteBuffer: body)
        )
    }

    /// The page runs only its own script and style, by an unguessable nonce, and connects only to this server.
    private func page(_ request: Request) throws -> Response {
        try allow(request, .page)
        let nonce = String((0..<4).map { _ in String(UInt32.random(in: .min ... .max), radix: 36) }.joined())
        let policy =
            "default-src 'none'; script-src 'nonce-\(nonce)'; style-src 'nonce-\(nonce)'; connect-src 'self'; "
            + "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
            + "require-trusted-types-for 'script'"
        return Response(
            status: .ok,
            headers: Self.headers(type: "text/html; charset=utf-8", policy: policy),
            body: ResponseBody(byteBuffer: ObserverPage.html(nonce: nonce))
        )
    }

    // MARK: The stream

    /// Server-sent events, until the viewer disconnects or is disconnected. It begins with the missed events that are still stored.
    private func stream(after number: UInt64?) -> Response {
        guard let viewer = observation.broadcast.addViewer() else {
            return Self.refuse(503, "the maximum number of viewers is reached: try again later")
        }
        observation.beginWatching()
        let visit = Visit(observation, viewer)
        return Response(
            status: .ok,
            headers: Self.headers(type: "text/event-stream"),
            body: ResponseBody { [observation] writer in
                defer { visit.end() }
                try await writer.write(ByteBuffer(string: "retry: 1000\n\n"))
                if let number {
                    for event in observation.events(after: number, tree: nil, key: nil, limit: 200).events {
                        if let message = ViewerBroadcast.message("change", event, id: event.number) {
                            try await writer.write(message)
                        }
                    }
                }
                if let message = ViewerBroadcast.message("overview", observation.overview()) {
                    try await writer.write(message)
                }
                while let messages = await observation.broadcast.next(viewer) {
                    for message in messages { try await writer.write(message) }
                }
                try await writer.finish(nil)
            }
        )
    }
}

/// Ends with the viewer's response, even one that was never written.
private final class Visit: Sendable {
    private let observation: Observation
    private let viewer: UInt64
    private let isOver = Once()

    init(_ observation: Observation, _ viewer: UInt64) {
        self.observation = observation
        self.viewer = viewer
    }

    func end() {
        guard isOver.set() else { return }
        observation.broadcast.removeViewer(viewer)
        observation.endWatching()
    }

    deinit { end() }
}

/// A response with the reason for a refusal.
private struct HTTPRefusal: HTTPResponseError {
    let code: Int
    let message: String

    init(status: Int, message: String) {
        code = status
        self.message = message
    }

    var status: HTTPResponse.Status { .init(code: code) }

    func response(from request: Request, context: some RequestContext) throws -> Response {
        Routes.refuse(code, message)
    }
}
#endif
