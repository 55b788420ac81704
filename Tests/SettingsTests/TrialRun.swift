import Foundation
import Synchronization

/// Tries settings, in a process that a trap or a hang may end. What it does is in a file, line by line.
enum TrialRun {
    /// How long one value may take.
    private static let limit = 30.0

    /// Ends the process with 1 when a value did not work and no error named the setting, with 3 when one takes too long.
    ///
    /// - Parameters:
    ///   - settings: What is tried, in this order.
    ///   - skipped: The names of those that are not.
    ///   - log: The path of the file.
    static func run(_ settings: [Setting], skipping skipped: [String], log: String) async {
        _ = FileManager.default.createFile(atPath: log, contents: nil)
        guard let file = FileHandle(forWritingAtPath: log) else { exit(2) }
        let watch = Watch(file)
        watch.start()
        var failures = 0
        for setting in settings where !skipped.contains(setting.name) {
            for trial in setting.trials {
                let label = "\(setting.name) = \(trial.value)"
                write("trying \(label)", to: file)
                watch.begin(label)
                let start = ContinuousClock.now
                do {
                    try await trial.run()
                } catch {
                    let text = "\(error)"
                    let names = setting.words.contains { text.localizedCaseInsensitiveContains($0) }
                    if !names, !(setting.isDeadline && trial.isNoTime) {
                        write("FAILED \(label): the error does not name it: \(text)", to: file)
                        failures += 1
                    }
                }
                watch.end()
                let time = ContinuousClock.now - start
                if time > .seconds(2) { write("slow: \(label) took \(time)", to: file) }
            }
        }
        write("done", to: file)
        if failures > 0 { exit(1) }
    }

    private static func write(_ line: String, to file: FileHandle) {
        file.write(Data((line + "\n").utf8))
    }

    /// What a run that failed leaves in its file.
    struct Summary {
        /// What did not work, without an error that names the setting.
        var failures: [String] = []
        /// What took its time.
        var slow: [String] = []
        /// What was being tried when the process ended before its time; nil when it did not.
        var unfinished: String?

        init(log: String) {
            let text = FileManager.default.contents(atPath: log).map { String(decoding: $0, as: UTF8.self) } ?? ""
            let lines = text.split(separator: "\n").map(String.init)
            failures = lines.filter { $0.hasPrefix("FAILED") }
            slow = lines.filter { $0.hasPrefix("slow") }
            if lines.last != "done" {
                let last = lines.last { $0.hasPrefix("trying") || $0.hasPrefix("HANGS") } ?? "trying nothing yet"
                unfinished = last
            }
        }

        /// The name of the setting that ended the process.
        var fatal: String? {
            unfinished?.split(separator: " ").dropFirst().first.map(String.init)
        }
    }

    /// A thread of its own: a value that spins takes all others.
    private final class Watch: Sendable {
        private let current = Mutex<(label: String, since: Date)?>(nil)
        private let file: FileHandle

        init(_ file: FileHandle) { self.file = file }

        func begin(_ label: String) { current.withLock { $0 = (label, Date()) } }
        func end() { current.withLock { $0 = nil } }

        func start() {
            Thread.detachNewThread { [self] in
                while true {
                    Thread.sleep(forTimeInterval: 0.5)
                    if let (label, since) = current.withLock({ $0 }), Date().timeIntervalSince(since) > TrialRun.limit {
                        TrialRun.write("HANGS \(label)", to: file)
                        exit(3)
                    }
                }
            }
        }
    }
}
