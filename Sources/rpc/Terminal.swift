import Synchronization

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// The terminal while it shows a screen; restored afterwards, however the program ends in order.
final class Terminal: Sendable {
    private let before: Mutex<termios>

    static var isThere: Bool { isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1 }

    init() {
        var settings = termios()
        tcgetattr(STDIN_FILENO, &settings)
        before = Mutex(settings)
        settings.c_lflag &= ~tcflag_t(ECHO | ICANON | ISIG)
        settings.c_iflag &= ~tcflag_t(IXON | ICRNL)
        tcsetattr(STDIN_FILENO, TCSANOW, &settings)
        // The alternate screen, without a cursor.
        Environment.writeOutput(Array("\u{1B}[?1049h\u{1B}[?25l".utf8))
    }

    func restore() {
        Environment.writeOutput(Array("\u{1B}[?25h\u{1B}[?1049l".utf8))
        before.withLock { settings in
            _ = tcsetattr(STDIN_FILENO, TCSANOW, &settings)
        }
    }

    var size: (width: Int, height: Int) {
        var size = winsize()
        guard ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0, size.ws_row > 0 else {
            return (80, 24)
        }
        return (Int(size.ws_col), Int(size.ws_row))
    }

    /// The typed bytes; `nil` when there were none for a tenth of a second; empty at the end of input.
    func read() -> [UInt8]? {
        var descriptor = pollfd(fd: STDIN_FILENO, events: Int16(POLLIN), revents: 0)
        guard poll(&descriptor, 1, 100) > 0 else { return nil }
        var bytes = [UInt8](repeating: 0, count: 256)
        let count = bytes.withUnsafeMutableBytes { platformRead(STDIN_FILENO, $0.baseAddress, $0.count) }
        return Array(bytes.prefix(max(0, count)))
    }

    func draw(_ lines: [TopLine], isColoured: Bool) {
        var text = "\u{1B}[H"
        for (index, line) in lines.enumerated() {
            text += Self.coded(line, isColoured) + "\u{1B}[K" + (index == lines.count - 1 ? "" : "\r\n")
        }
        Environment.writeOutput(Array((text + "\u{1B}[J").utf8))
    }

    private static func coded(_ line: TopLine, _ isColoured: Bool) -> String {
        let code: String? =
            switch line.style {
            case .plain: nil
            case .title: "1"
            case .selected: "7"
            case .soft: isColoured ? "2" : nil
            case .good: isColoured ? "32" : nil
            case .warning: isColoured ? "33" : nil
            case .bad: isColoured ? "31;1" : nil
            }
        return code.map { "\u{1B}[\($0)m\(line.text)\u{1B}[0m" } ?? line.text
    }
}

private func platformRead(_ descriptor: Int32, _ bytes: UnsafeMutableRawPointer?, _ count: Int) -> Int {
    guard let bytes else { return 0 }
    return read(descriptor, bytes, count)
}
