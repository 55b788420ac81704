import Foundation
import LocalBroker

/// A process that owns a broker, to be killed by a test.
///
/// Prints the broker's folder and port when it is up, and with `--with-child` the number of a child process that outlives
/// it.
let broker = try await LocalBroker.start()
var line = "\(broker.folder) \(broker.port)"
if CommandLine.arguments.contains("--with-child") {
    let child = Process()
    child.executableURL = URL(fileURLWithPath: "/bin/sleep")
    child.arguments = ["600"]
    child.standardOutput = FileHandle.nullDevice
    try child.run()
    line += " \(child.processIdentifier)"
}
FileHandle.standardOutput.write(Data("\(line)\n".utf8))
while true {
    try await Task.sleep(for: .seconds(3600))
}
