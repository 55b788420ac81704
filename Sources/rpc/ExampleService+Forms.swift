import RPCReceiver

extension ExampleService {
    /// The procedures with this form of arguments and results.
    ///
    /// - Parameter nameless: The procedure that answers requests without a name, if any.
    static func procedures(_ form: Form, nameless: String? = nil) -> [RPCHandler] {
        switch form {
        case .json: json(nameless)
        case .text: plain { $0 == nameless ? [$0, nil] : [$0] }
        case .raw: raw { $0 == nameless ? [$0, nil] : [$0] }
        }
    }

    // MARK: JSON

    @RPCHandlersBuilder
    private static func json(_ nameless: String?) -> [RPCHandler] {
        json("add", nameless) { (numbers: [JSONValue]) in try sum(numbers) }
        json("echo", nameless) { (value: JSONValue) in value }
        json("fib", nameless) { (n: Int) in try fibonacci(n) }
        json("sleep", nameless) { (seconds: Double) in
            try await sleep(seconds)
            return seconds == seconds.rounded() ? JSONValue.integer(Int64(seconds)) : .number(seconds)
        }
        json("fail", nameless) { (message: String) -> JSONValue in throw fail(message) }
    }

    private static func json<Argument: Decodable & SendableMetatype, Output: Encodable & SendableMetatype>(
        _ name: String,
        _ nameless: String?,
        _ body: @escaping @Sendable (Argument) async throws -> Output
    ) -> [RPCHandler] {
        let handler = { @Sendable (argument: Argument, _: RPCContext) async throws -> Output in
            try await body(argument)
        }
        return [RPCHandler(name, handler: handler)] + (name == nameless ? [.default(handler: handler)] : [])
    }

    // MARK: Text and bytes

    private typealias TextHandler = @Sendable (String) async throws -> String

    private static let texts: [(name: String, handler: TextHandler)] = [
        ("add", { text in "\(try sum(numbers(text)))" }),
        ("echo", { text in text }),
        ("fib", { text in "\(try fibonacci(number(text)))" }),
        (
            "sleep",
            { text in
                try await sleep(number(text))
                return text
            }
        ),
        ("fail", { text in throw fail(text) }),
    ]

    private static func plain(_ names: (String) -> [String?]) -> [RPCHandler] {
        texts.flatMap { name, handler in
            names(name).map { RPCHandler(RPCProcedure($0, codec: .text)) { text, _ in try await handler(text) } }
        }
    }

    private static func raw(_ names: (String) -> [String?]) -> [RPCHandler] {
        texts.flatMap { name, handler in
            // `echo` returns any bytes; the others need text.
            let isEcho = name == "echo"
            return names(name).map { name in
                let declaration = RPCProcedure<[UInt8], [UInt8]>(
                    name,
                    request: BytesCodec(acceptsAnyType: true),
                    response: .bytes
                )
                return RPCHandler(declaration) { bytes, _ in
                    isEcho ? bytes : Array(try await handler(text(bytes)).utf8)
                }
            }
        }
    }

    private static func text(_ bytes: [UInt8]) throws -> String {
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw RPCFailure(code: .undecodableRequest, message: "the bytes are not UTF-8 text")
        }
        return text
    }

    /// The numbers in a text, for example `4 9` or `[4, 9]`.
    private static func numbers(_ text: String) throws -> [JSONValue] {
        try text.split { $0.isWhitespace || ",;[]".contains($0) }.map { part in
            if let whole = Int64(part) { return .integer(whole) }
            return .number(try number(String(part)))
        }
    }

    private static func number<Number: LosslessStringConvertible>(_ text: String) throws -> Number {
        guard let number = Number(text.filter { !$0.isWhitespace }) else {
            throw RPCFailure(code: .undecodableRequest, message: "\"\(text.prefix(50))\" is not a number")
        }
        return number
    }
}
