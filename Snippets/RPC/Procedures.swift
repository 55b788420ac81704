import NIOCore
import RPCCaller
import RPCReceiver

// snippet.declarations
enum Math {
    static let add = RPCProcedure<[Int], Int>("add")
    static let upper = RPCProcedure<String, String>("upper", codec: .text)
    static let reverse = RPCProcedure<ByteBuffer, ByteBuffer>("reverse", codec: .bytes)
}
// snippet.end

// snippet.receiver
let receiver = RPCReceiver(service: "math", endpoints: ["amqp://guest:guest@127.0.0.1:5672"]) {
    RPCHandler(Math.add) { numbers, _ in numbers.reduce(0, +) }
    RPCHandler(Math.upper) { text, _ in text.uppercased() }
}
// snippet.end

// snippet.caller
let rpc = RPCCaller(service: "checkout", endpoints: ["amqp://guest:guest@127.0.0.1:5672"])
try await rpc.start()
let sum = try await rpc.call("math", Math.add, [4, 9])
// snippet.end
print(sum)

// snippet.codec
/// Whole numbers as decimal text.
struct DecimalCodec: RPCCodec {
    var contentType: String { "text/x-decimal" }

    func encode(_ value: Int) -> ByteBuffer {
        ByteBuffer(string: String(value))
    }

    func decode(_ bytes: ByteBuffer) throws(RPCCodecError) -> Int {
        guard let value = Int(String(buffer: bytes)) else { throw RPCCodecError("it is no number") }
        return value
    }
}
// snippet.end

// snippet.queue
let fib = RPCProcedure<String, String>(nil, codec: .text)
let number = try await rpc.callQueue("rpc_queue", fib, "30")
// snippet.end
print(number, DecimalCodec().contentType)
