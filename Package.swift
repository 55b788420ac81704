// swift-tools-version:6.2
import PackageDescription

let settings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

let package = Package(
    name: "swift-supervision",
    platforms: [.macOS(.v15)],
    products: [
        .library(name: "Supervision", targets: ["Supervision"]),
        .library(name: "AMQPPool", targets: ["AMQPPool"]),
        .library(name: "QueueWorkers", targets: ["QueueWorkers"]),
        .library(name: "RPCContract", targets: ["RPCContract"]),
        .library(name: "RPCCaller", targets: ["RPCCaller"]),
        .library(name: "RPCReceiver", targets: ["RPCReceiver"]),
        .library(name: "RPCActors", targets: ["RPCActors"]),
        .library(name: "RPCTesting", targets: ["RPCTesting"]),
        .library(name: "SupervisionTesting", targets: ["SupervisionTesting"]),
        .library(name: "SupervisionObserver", targets: ["SupervisionObserver"]),
        .library(name: "AMQPTesting", targets: ["AMQPTesting"]),
        .library(name: "LocalBroker", targets: ["LocalBroker"]),
        .executable(name: "rpc", targets: ["rpc"]),
    ],
    traits: [
        .trait(name: "Configuration", description: "Settings from swift-configuration's ConfigReader"),
        .trait(name: "Observer", description: "A page that shows all of it live: SupervisionObserver"),
        .trait(name: "Protobuf", description: "Requests and results in Protocol Buffers: ProtobufCodec"),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-configuration", from: "1.4.0"),
        .package(url: "https://github.com/apple/swift-distributed-tracing", from: "1.7.0"),
        .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
        .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.0"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.0"),
        .package(url: "https://github.com/apple/swift-protobuf", from: "1.39.0"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1", traits: []),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
        .package(url: "https://github.com/swiftlang/swift-docc-plugin", from: "1.5.0"),
    ],
    targets: [
        .target(
            name: "ConcurrencyPrimitives",
            dependencies: [.product(name: "HeapModule", package: "swift-collections")],
            swiftSettings: settings
        ),
        .target(
            name: "Supervision",
            dependencies: [
                "ConcurrencyPrimitives",
                .product(name: "DequeModule", package: "swift-collections"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "Metrics", package: "swift-metrics"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ],
            swiftSettings: settings
        ),
        .systemLibrary(
            name: "CRabbitMQ",
            pkgConfig: "librabbitmq",
            providers: [.apt(["librabbitmq-dev"]), .brew(["rabbitmq-c"])]
        ),
        .target(
            name: "AMQPPool",
            dependencies: [
                "CRabbitMQ", "ConcurrencyPrimitives", "Supervision",
                .product(
                    name: "Configuration",
                    package: "swift-configuration",
                    condition: .when(traits: ["Configuration"])
                ),
                .product(name: "DequeModule", package: "swift-collections"),
                .product(name: "HeapModule", package: "swift-collections"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "Metrics", package: "swift-metrics"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "NIOTLS", package: "swift-nio"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "Tracing", package: "swift-distributed-tracing"),
            ],
            swiftSettings: settings
        ),
        .target(
            name: "RPCContract",
            dependencies: [
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOFoundationCompat", package: "swift-nio"),
                .product(name: "SwiftProtobuf", package: "swift-protobuf", condition: .when(traits: ["Protobuf"])),
            ],
            swiftSettings: settings
        ),
        .target(
            name: "RPCWire",
            dependencies: [
                "AMQPPool", "ConcurrencyPrimitives", "RPCContract", "Supervision",
                .product(name: "HeapModule", package: "swift-collections"),
                .product(name: "Metrics", package: "swift-metrics"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "Tracing", package: "swift-distributed-tracing"),
            ],
            swiftSettings: settings
        ),
        .target(
            name: "QueueWorkers",
            dependencies: [
                "AMQPPool", "ConcurrencyPrimitives", "RPCContract", "RPCWire", "Supervision",
                .product(
                    name: "Configuration",
                    package: "swift-configuration",
                    condition: .when(traits: ["Configuration"])
                ),
                .product(name: "DequeModule", package: "swift-collections"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "Tracing", package: "swift-distributed-tracing"),
            ],
            swiftSettings: settings
        ),
        .target(
            name: "RPCCaller",
            dependencies: [
                "AMQPPool", "ConcurrencyPrimitives", "RPCWire", "Supervision",
                .product(
                    name: "Configuration",
                    package: "swift-configuration",
                    condition: .when(traits: ["Configuration"])
                ),
                .product(name: "DequeModule", package: "swift-collections"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "Metrics", package: "swift-metrics"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "Tracing", package: "swift-distributed-tracing"),
            ],
            swiftSettings: settings
        ),
        .target(
            name: "RPCReceiver",
            dependencies: [
                "AMQPPool", "ConcurrencyPrimitives", "RPCWire", "Supervision",
                .product(
                    name: "Configuration",
                    package: "swift-configuration",
                    condition: .when(traits: ["Configuration"])
                ),
                .product(name: "DequeModule", package: "swift-collections"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "Metrics", package: "swift-metrics"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "Tracing", package: "swift-distributed-tracing"),
            ],
            swiftSettings: settings
        ),
        .target(
            name: "RPCActors",
            dependencies: [
                "AMQPPool", "ConcurrencyPrimitives", "RPCCaller", "RPCContract", "RPCReceiver", "RPCWire",
                "Supervision",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOFoundationCompat", package: "swift-nio"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ],
            swiftSettings: settings
        ),
        .target(
            name: "RPCTesting",
            dependencies: [
                "AMQPPool", "ConcurrencyPrimitives", "RPCCaller", "RPCReceiver", "RPCWire",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ],
            swiftSettings: settings
        ),
        .target(
            name: "SupervisionTesting",
            dependencies: ["ConcurrencyPrimitives", "Supervision"],
            swiftSettings: settings
        ),
        .target(
            name: "SupervisionObserver",
            dependencies: [
                "AMQPPool", "ConcurrencyPrimitives", "RPCCaller", "RPCReceiver", "RPCWire", "Supervision",
                .product(name: "DequeModule", package: "swift-collections"),
                .product(name: "HTTPTypes", package: "swift-http-types", condition: .when(traits: ["Observer"])),
                .product(name: "Hummingbird", package: "hummingbird", condition: .when(traits: ["Observer"])),
                .product(name: "HummingbirdCore", package: "hummingbird", condition: .when(traits: ["Observer"])),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ],
            resources: [.embedInCode("Resources/observer.html")],
            swiftSettings: settings
        ),
        .target(
            name: "LocalBroker",
            dependencies: [
                "ConcurrencyPrimitives", "Supervision",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ],
            swiftSettings: settings
        ),
        .target(
            name: "AMQPTesting",
            dependencies: ["LocalBroker", "SupervisionTesting"],
            swiftSettings: settings
        ),
        .executableTarget(
            name: "rpc",
            dependencies: [
                "AMQPPool", "ConcurrencyPrimitives", "LocalBroker", "QueueWorkers", "RPCCaller", "RPCReceiver",
                "RPCWire", "Supervision", "SupervisionObserver", "SupervisionTesting",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "UnixSignals", package: "swift-service-lifecycle"),
            ],
            swiftSettings: settings
        ),
        .testTarget(
            name: "ConcurrencyPrimitivesTests",
            dependencies: ["ConcurrencyPrimitives"],
            swiftSettings: settings
        ),
        .testTarget(
            name: "SupervisionTests",
            dependencies: [
                "Supervision", "SupervisionTesting", "TestTurns",
                .product(name: "DequeModule", package: "swift-collections"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "Metrics", package: "swift-metrics"),
                .product(name: "MetricsTestKit", package: "swift-metrics"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ],
            swiftSettings: settings
        ),
        .testTarget(
            name: "SupervisionTestingTests",
            dependencies: [
                "Supervision", "SupervisionTesting",
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: settings
        ),
        .target(
            name: "ChaosSupport",
            dependencies: [
                "AMQPPool", "AMQPTesting", "QueueWorkers", "RPCCaller", "RPCReceiver", "Supervision",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
            ],
            path: "Tests/ChaosSupport",
            swiftSettings: settings
        ),
        .executableTarget(
            name: "Storm",
            dependencies: [
                "AMQPTesting", "ChaosSupport", "RPCCaller", "RPCReceiver", "Supervision",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            path: "Tests/Storm",
            swiftSettings: settings
        ),
        .testTarget(
            name: "KillMatrixTests",
            dependencies: [
                "AMQPPool", "AMQPTesting", "ActorContracts", "ActorStorm", "BrokerSupport", "ChaosSupport",
                "LocalBroker", "RPCActors", "RPCCaller", "RPCReceiver", "RPCWire", "Supervision",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
            ],
            swiftSettings: settings
        ),
        .testTarget(
            name: "DocumentationTests",
            dependencies: [
                "AMQPPool", "AMQPTesting", "BrokerSupport", "QueueWorkers", "RPCCaller", "RPCReceiver", "RPCTesting",
                "Supervision", "SupervisionTesting", "TestTurns",
                .product(
                    name: "Configuration",
                    package: "swift-configuration",
                    condition: .when(traits: ["Configuration"])
                ),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
            ],
            swiftSettings: settings
        ),
        .testTarget(
            name: "ConformanceTests",
            dependencies: [
                "Supervision", "SupervisionTesting",
                .product(name: "Logging", package: "swift-log"),
            ],
            // Erlang source, compiled by the tests that use it.
            exclude: ["OTP"],
            swiftSettings: settings
        ),
        .testTarget(
            name: "AMQPPoolTests",
            dependencies: [
                "AMQPPool", "BrokerSupport", "ConcurrencyPrimitives", "LocalBroker", "Supervision",
                "SupervisionTesting", "TestTurns",
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "NIOTLS", package: "swift-nio"),
            ],
            swiftSettings: settings
        ),
        .testTarget(
            name: "QueueWorkersTests",
            dependencies: [
                "AMQPPool", "BrokerSupport", "LocalBroker", "QueueWorkers", "RPCContract", "Supervision",
                "SupervisionTesting",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
            ],
            swiftSettings: settings
        ),
        .target(name: "TestTurns", path: "Tests/TestTurns", swiftSettings: settings),
        .target(
            name: "BrokerSupport",
            dependencies: ["LocalBroker", "TestTurns", .product(name: "Logging", package: "swift-log")],
            path: "Tests/BrokerSupport",
            swiftSettings: settings
        ),
        .executableTarget(
            name: "BrokerOwner",
            dependencies: ["LocalBroker"],
            path: "Tests/BrokerOwner",
            swiftSettings: settings
        ),
        .testTarget(
            name: "LocalBrokerTests",
            dependencies: [
                "AMQPPool", "BrokerOwner", "BrokerSupport", "LocalBroker", "Supervision", "TestTurns",
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ],
            swiftSettings: settings
        ),
        .testTarget(
            name: "RPCWireTests",
            dependencies: [
                "AMQPPool", "RPCReceiver", "RPCWire",
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "SwiftProtobuf", package: "swift-protobuf", condition: .when(traits: ["Protobuf"])),
            ],
            exclude: ["Protobuf/order.proto"],
            swiftSettings: settings
        ),
        .testTarget(
            name: "RPCCallerTests",
            dependencies: [
                "AMQPPool", "BrokerSupport", "ConcurrencyPrimitives", "LocalBroker", "RPCCaller", "RPCReceiver",
                "RPCWire", "Supervision", "SupervisionTesting",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ],
            swiftSettings: settings
        ),
        .testTarget(
            name: "RPCReceiverTests",
            dependencies: [
                "AMQPPool", "BrokerSupport", "ConcurrencyPrimitives", "RPCReceiver", "RPCWire",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ],
            swiftSettings: settings
        ),
        .target(
            name: "ActorContracts",
            path: "Tests/ActorContracts",
            swiftSettings: settings
        ),
        .target(
            name: "ActorContractsNext",
            path: "Tests/ActorContractsNext",
            swiftSettings: settings
        ),
        .executableTarget(
            name: "ActorStorm",
            dependencies: [
                "ActorContracts", "AMQPPool", "AMQPTesting", "RPCActors", "RPCCaller", "RPCReceiver", "Supervision",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
            ],
            path: "Tests/ActorStorm",
            swiftSettings: settings
        ),
        .testTarget(
            name: "RPCActorsTests",
            dependencies: [
                "ActorContracts", "ActorContractsNext", "AMQPPool", "BrokerSupport", "LocalBroker", "RPCActors",
                "RPCCaller", "RPCReceiver", "RPCWire", "Supervision", "SupervisionTesting",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
            ],
            swiftSettings: settings
        ),
        .testTarget(
            name: "RPCTestingTests",
            dependencies: [
                "AMQPPool", "RPCCaller", "RPCContract", "RPCReceiver", "RPCTesting", "RPCWire", "Supervision",
                .product(name: "InMemoryTracing", package: "swift-distributed-tracing"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "MetricsTestKit", package: "swift-metrics"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "Tracing", package: "swift-distributed-tracing"),
            ],
            swiftSettings: settings
        ),
        .testTarget(
            name: "OperationsTests",
            dependencies: [
                "AMQPPool", "BrokerSupport", "ConcurrencyPrimitives", "LocalBroker", "QueueWorkers", "RPCCaller",
                "RPCReceiver", "RPCWire", "Supervision",
                .product(name: "InMemoryTracing", package: "swift-distributed-tracing"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "MetricsTestKit", package: "swift-metrics"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "Tracing", package: "swift-distributed-tracing"),
            ],
            swiftSettings: settings
        ),
        .testTarget(
            name: "SupervisionObserverTests",
            dependencies: [
                "AMQPPool", "BrokerSupport", "QueueWorkers", "RPCCaller", "RPCReceiver", "RPCTesting",
                "Supervision", "SupervisionObserver",
                .product(name: "HTTPTypes", package: "swift-http-types", condition: .when(traits: ["Observer"])),
                .product(name: "Hummingbird", package: "hummingbird", condition: .when(traits: ["Observer"])),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ],
            exclude: ["Browser/browser.py"],
            swiftSettings: settings
        ),
        .testTarget(
            name: "InteroperabilityTests",
            dependencies: [
                "ActorContracts", "AMQPPool", "BrokerSupport", "LocalBroker", "QueueWorkers", "RPCActors", "RPCCaller",
                "RPCReceiver",
                "RPCWire",
                "Supervision", "rpc",
                .product(name: "Logging", package: "swift-log"),
            ],
            exclude: ["Python"],
            swiftSettings: settings
        ),
        .testTarget(
            name: "SettingsTests",
            dependencies: [
                "AMQPPool", "AMQPTesting", "ActorContracts", "BrokerSupport", "LocalBroker", "QueueWorkers",
                "RPCActors", "RPCCaller", "RPCReceiver", "RPCWire", "Supervision", "SupervisionObserver",
                "SupervisionTesting",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ],
            swiftSettings: settings
        ),
        .testTarget(
            name: "RPCToolTests",
            dependencies: [
                "AMQPPool", "BrokerSupport", "LocalBroker", "QueueWorkers", "Supervision", "SupervisionObserver", "rpc",
                .product(name: "NIOCore", package: "swift-nio"),
            ],
            swiftSettings: settings
        ),
    ],
    swiftLanguageModes: [.v6]
)
