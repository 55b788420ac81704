import AMQPPool
import RPCCaller

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// The parts of the OS process that the tool uses.
enum Environment {
    static func value(_ name: String) -> String? {
        getenv(name).map { String(cString: $0) }
    }

    /// Whether standard output is a terminal with colours.
    static var showsColours: Bool {
        isatty(STDOUT_FILENO) == 1 && value("NO_COLOR") == nil && value("TERM") != "dumb"
    }

    /// Much of it comes from the other side: control characters must not reach the terminal.
    static func writeError(_ text: String) {
        write(text.escapedButLines + "\n", to: STDERR_FILENO)
    }

    /// Unbuffered, so that a reader of a pipe sees everything immediately.
    static func writeOutput(_ text: String) {
        write(text + "\n", to: STDOUT_FILENO)
    }

    /// Writes bytes unchanged, without a line ending.
    static func writeOutput(_ bytes: [UInt8]) {
        write(bytes, to: STDOUT_FILENO)
    }

    private static func write(_ text: String, to descriptor: Int32) {
        write(Array(text.utf8), to: descriptor)
    }

    private static func write(_ bytes: [UInt8], to descriptor: Int32) {
        var bytes = bytes[...]
        while !bytes.isEmpty {
            let written = bytes.withUnsafeBytes { platformWrite(descriptor, $0.baseAddress, $0.count) }
            guard written > 0 else { return }
            bytes = bytes.dropFirst(written)
        }
    }

    static func exitNow(_ code: Int32) -> Never {
        exit(code)
    }
}

private func platformWrite(_ descriptor: Int32, _ bytes: UnsafeRawPointer?, _ count: Int) -> Int {
    write(descriptor, bytes, count)
}
