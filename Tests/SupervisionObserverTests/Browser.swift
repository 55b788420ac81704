#if Observer
import BrokerSupport
import Foundation
import Testing

/// A headless Chromium that looks at a page, driven through its DevTools protocol by `Browser/browser.py`.
struct Browser: Sendable {
    /// Where Chromium is; `nil` where there is none. `scripts/bootstrap --tests` installs it.
    static let program: String? = [
        "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome",
        "/Applications/Chromium.app/Contents/MacOS/Chromium",
    ].first { FileManager.default.isExecutableFile(atPath: $0) }

    private static let python: String? = ["/usr/bin/python3", "/usr/local/bin/python3", "/opt/homebrew/bin/python3"]
        .first { FileManager.default.isExecutableFile(atPath: $0) }

    struct Failure: Error, CustomStringConvertible {
        var description: String
    }

    struct Report: Decodable {
        var errors: [String]
        var urls: [String]
    }

    private struct Answer<Value: Decodable>: Decodable {
        var value: Value?
        var error: String?
    }

    private struct Waited: Decodable {
        var took: Double
        var value: Truth?
    }

    /// Anything but false, null, 0 and "".
    private struct Truth: Decodable {
        var isTrue: Bool

        init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            if let flag = try? container.decode(Bool.self) {
                isTrue = flag
            } else if let number = try? container.decode(Double.self) {
                isTrue = number != 0
            } else if let text = try? container.decode(String.self) {
                isTrue = !text.isEmpty
            } else {
                isTrue = !container.decodeNil()
            }
        }
    }

    private let driver: Program

    static func run(_ body: (Browser) async throws -> Void) async throws {
        let script = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Browser/browser.py").path
        let driver = try Program("the browser", #require(python), [script, #require(program)])
        defer { driver.kill() }
        _ = try await driver.line()
        try await body(Browser(driver: driver))
        // The end of its input ends it in order: the browser's profile is removed.
        try driver.endInput()
        await driver.ended()
    }

    private func ask<Value: Decodable>(_ command: [String: any Sendable], as type: Value.Type) async throws -> Value? {
        try driver.say(String(decoding: JSONSerialization.data(withJSONObject: command), as: UTF8.self))
        let answer = try JSONDecoder().decode(Answer<Value>.self, from: Data(await driver.line().utf8))
        if let error = answer.error { throw Failure(description: error) }
        return answer.value
    }

    func open(_ url: String?, width: Int = 1280, height: Int = 800, dark: Bool = false) async throws {
        var command: [String: any Sendable] = ["do": "open", "width": width, "height": height, "dark": dark]
        if let url { command["url"] = url }
        _ = try await ask(command, as: Bool.self)
    }

    /// The value of an expression.
    func value<Value: Decodable>(_ script: String, as type: Value.Type = Value.self) async throws -> Value {
        guard let value = try await ask(["do": "eval", "script": script], as: type) else {
            throw Failure(description: "\(script) has no value")
        }
        return value
    }

    func run(_ script: String) async throws {
        _ = try await ask(["do": "eval", "script": "(() => { \(script); return true; })()"], as: Bool.self)
    }

    /// Waits until an expression is true, and returns the seconds that it took; fails when it does not become so.
    @discardableResult
    func wait(
        _ script: String,
        seconds: Double = 30,
        sourceLocation: SourceLocation = #_sourceLocation
    ) async throws -> Double {
        let waited = try await ask(["do": "wait", "script": script, "seconds": seconds], as: Waited.self)
        #expect(waited?.value?.isTrue == true, "\(script)", sourceLocation: sourceLocation)
        return waited?.took ?? .infinity
    }

    func press(_ key: String) async throws {
        _ = try await ask(["do": "key", "key": key], as: Bool.self)
    }

    func type(_ text: String) async throws {
        _ = try await ask(["do": "type", "text": text], as: Bool.self)
    }

    /// With the mouse, which is held down for so many seconds.
    func click(_ selector: String, hold: Double = 0, count: Int = 1) async throws {
        _ = try await ask(["do": "click", "selector": selector, "hold": hold, "count": count], as: Bool.self)
    }

    /// Selects an element's text with the mouse.
    func drag(over selector: String) async throws {
        _ = try await ask(["do": "drag", "selector": selector], as: Bool.self)
    }

    /// Kept in the folder that `OBSERVER_SCREENSHOTS` names, or else in `.build/screenshots`.
    func screenshot(_ name: String) async throws {
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let folder =
            ProcessInfo.processInfo.environment["OBSERVER_SCREENSHOTS"].map { URL(filePath: $0) }
            ?? root.appending(path: ".build/screenshots")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let file = folder.appending(path: "\(name).png").path
        _ = try await ask(["do": "screenshot", "file": file], as: String.self)
    }

    func report() async throws -> Report {
        try #require(await ask(["do": "report"], as: Report.self))
    }
}
#endif
