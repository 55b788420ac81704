/// An actor that maintains names of processes.
package protocol NameKeeping: Actor {
    /// The names under which this process is registered, as text, at most `limit`.
    nonisolated func names(of pid: Pid, limit: Int) -> [String]
}
