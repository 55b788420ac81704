import RPCReceiver

/// The procedures of `rpc serve` and `rpc demo`, independent of the form of arguments and results.
enum ExampleService {
    static let help = """
        add    an array of numbers     their sum
        echo   any JSON                the same
        fib    n, 0 to 92              the n-th Fibonacci number
        sleep  seconds, 0 to 3600      the same, that much later
        fail   a text                  an error with that text
        """

    static let names = ["add", "echo", "fib", "sleep", "fail"]

    /// Integers stay integers as long as they fit.
    static func sum(_ numbers: [JSONValue]) throws -> JSONValue {
        var whole: Int64? = 0
        var sum = 0.0
        for number in numbers {
            switch number {
            case .integer(let value):
                sum += Double(value)
                whole = whole.flatMap { total in
                    let (next, overflow) = total.addingReportingOverflow(value)
                    return overflow ? nil : next
                }
            case .number(let value):
                sum += value
                whole = nil
            case .null, .bool, .string, .array, .object:
                throw RPCFailure(
                    code: .undecodableRequest,
                    message: "add takes an array of numbers, but \(number) is not a number"
                )
            }
        }
        return whole.map { .integer($0) } ?? .number(sum)
    }

    static func fibonacci(_ n: Int) throws -> Int {
        guard (0...92).contains(n) else {
            throw RPCFailure(code: "out_of_range", message: "fib takes 0 to 92, not \(n)")
        }
        var (a, b) = (0, 1)
        for _ in 0..<n { (a, b) = (b, a &+ b) }
        return a
    }

    /// Returns after this time.
    static func sleep(_ seconds: Double) async throws {
        guard seconds >= 0, seconds <= 3600 else {
            throw RPCFailure(code: "out_of_range", message: "sleep takes 0 to 3600 seconds, not \(seconds)")
        }
        try await Task.sleep(for: .seconds(seconds))
    }

    static func fail(_ text: String) -> RPCFailure { RPCFailure(code: "failed", message: text) }
}
