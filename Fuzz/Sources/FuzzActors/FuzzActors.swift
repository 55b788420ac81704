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
            do throws(ActorCheck.Failure) {
                try ActorCheck.check(Array(UnsafeBufferPointer(start: bytes, count: count)))
                return 0
            } catch {
                fatalError(error.what)
            }
        }
    }
}
