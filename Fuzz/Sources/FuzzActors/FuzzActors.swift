import Dispatch

/// libFuzzer's loop: calls the function with one input after the other until it crashes, or what the arguments say is done.
@_silgen_name("LLVMFuzzerRunDriver")
private func runFuzzer(
    _ count: UnsafeMutablePointer<CInt>,
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>,
    _ test: @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt
) -> CInt

@main
enum FuzzActors {
    static func main() {
        var count = CommandLine.argc
        var arguments = CommandLine.unsafeArgv
        _ = runFuzzer(&count, &arguments) { bytes, count in
            let input = Array(UnsafeBufferPointer(start: bytes, count: count))
            // libFuzzer calls from a thread of its own, and knows nothing of tasks.
            let done = DispatchSemaphore(value: 0)
            Task.detached {
                do throws(ActorCheck.Failure) {
                    try await ActorCheck.check(input)
                } catch {
                    fatalError(error.what)
                }
                done.signal()
            }
            done.wait()
            return 0
        }
    }
}
