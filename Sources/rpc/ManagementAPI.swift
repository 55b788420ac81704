import AMQPPool
import Foundation
import SupervisionObserver

/// The broker's management plugin, for information that AMQP does not provide: the list of queues.
struct ManagementAPI: Sendable {
    struct Failure: Error, CustomStringConvertible {
        var description: String
    }

    // The names are the plugin's.
    struct Queue: Decodable, Sendable {
        struct Consumer: Decodable, Sendable {
            struct Channel: Decodable, Sendable {
                var connection_name: String?
            }

            var prefetch_count: Int?
            var channel_details: Channel?
        }

        var name: String
        var type: String?
        var state: String?
        var consumers: Int?
        var messages_ready: Int?
        var messages_unacknowledged: Int?
        var consumer_details: [Consumer]?
    }

    private let client: ObserverClient
    private let headers: [(String, String)]
    private let virtualHost: String

    /// - Parameter url: Its URL; `nil` for port 15672 of the endpoint's host.
    init(_ endpoint: Endpoint, url: String?) throws {
        let host = endpoint.host.contains(":") ? "[\(endpoint.host)]" : endpoint.host
        do {
            client = try ObserverClient(url: url ?? "http://\(host):15672/")
        } catch {
            throw Failure(
                description: "'\(url ?? "")' is no address of a management plugin: http://HOST:PORT is expected"
            )
        }
        let credentials = Data("\(endpoint.username):\(endpoint.password)".utf8).base64EncodedString()
        headers = [("Authorization", "Basic \(credentials)")]
        virtualHost = Self.encoded(endpoint.virtualHost)
    }

    func queues() async throws -> [Queue] { try await get("api/queues/\(virtualHost)") }

    func queue(_ name: String) async throws -> Queue {
        try await get("api/queues/\(virtualHost)/\(Self.encoded(name))")
    }

    private func get<Document: Decodable>(_ path: String) async throws -> Document {
        let answer: ObserverClient.Answer
        do {
            answer = try await client.request("GET", path, headers: headers, timeout: .seconds(5))
        } catch {
            throw Failure(description: "the management plugin at \(client.host):\(client.port) cannot be reached")
        }
        switch answer.status {
        case 200: break
        case 401, 403: throw Failure(description: "the management plugin refuses this user (\(answer.status))")
        case 404: throw Failure(description: "the management plugin does not know it (404)")
        default: throw Failure(description: "the management plugin answers \(answer.status)")
        }
        do {
            return try JSONDecoder().decode(Document.self, from: Data(answer.body))
        } catch {
            throw Failure(description: "the answer of \(client.host):\(client.port) is not one of a management plugin")
        }
    }

    private static func encoded(_ text: String) -> String {
        text.utf8.map { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."):
                String(UnicodeScalar(byte))
            default: "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
            }
        }.joined()
    }
}
