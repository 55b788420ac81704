import Synchronization

/// The output of the demo, and its number of failed expectations.
final class Transcript: Sendable {
    private let wrong = Mutex(0)
    private let colours = Environment.showsColours

    var differences: Int { wrong.withLock { $0 } }

    func say(_ text: String) {
        Environment.writeOutput(text)
    }

    func title(_ text: String) {
        say("\n" + style(text, "1"))
    }

    /// Records an observation next to what was expected.
    func check(_ expected: String, _ isAsExpected: Bool, observed: String) {
        let mark = isAsExpected ? style("ok", "32") : style("DIFFERS", "31")
        if !isAsExpected { wrong.withLock { $0 += 1 } }
        say("  expected  \(expected)\n  observed  \(observed)  [\(mark)]")
    }

    private func style(_ text: String, _ code: String) -> String {
        colours ? "\u{1B}[\(code)m\(text)\u{1B}[0m" : text
    }
}

extension Duration {
    /// Milliseconds below ten seconds, otherwise seconds.
    var short: String {
        let milliseconds = components.seconds * 1000 + components.attoseconds / 1_000_000_000_000_000
        return milliseconds < 10_000 ? "\(milliseconds) ms" : "\(milliseconds / 1000) s"
    }
}
