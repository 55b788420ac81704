import Foundation

/// Standard input, whose end is how a script tells a server to stop.
enum Input {
    /// Returns when it has ended.
    static func ended() async {
        await withCheckedContinuation { continuation in
            let thread = Thread {
                while !FileHandle.standardInput.availableData.isEmpty {}
                continuation.resume()
            }
            thread.start()
        }
    }
}

/// Writes a line on standard output at once, whatever that is.
func say(_ line: String) {
    try? FileHandle.standardOutput.write(contentsOf: Data((line + "\n").utf8))
}
