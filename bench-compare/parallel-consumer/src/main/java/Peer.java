// Handles a topic with Confluent's Parallel Consumer: java Peer SERVERS TOPIC KEY|PARTITION WORKERS SLEEP_MS EVENTS.
// Prints the seconds from the beginning of the first handler to the end of the last.

import io.confluent.parallelconsumer.ParallelConsumerOptions;
import io.confluent.parallelconsumer.ParallelConsumerOptions.ProcessingOrder;
import io.confluent.parallelconsumer.ParallelStreamProcessor;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;

public final class Peer {
    /** Events of the pass before: by then the code is compiled. */
    private static final int WARM_UP = 3000;

    public static void main(String[] arguments) throws Exception {
        String servers = arguments[0];
        String topic = arguments[1];
        ProcessingOrder order = ProcessingOrder.valueOf(arguments[2]);
        int workers = Integer.parseInt(arguments[3]);
        int sleep = Integer.parseInt(arguments[4]);
        int events = Integer.parseInt(arguments[5]);
        if (order == ProcessingOrder.KEY) {
            handle(servers, topic, order, workers, sleep, Math.min(events, WARM_UP));
        }
        double took = handle(servers, topic, order, workers, sleep, events);
        System.out.println(took);
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }

    private static double handle(
            String servers, String topic, ProcessingOrder order, int workers, int sleep, int events)
            throws Exception {
        KafkaConsumer<String, byte[]> consumer = new KafkaConsumer<>(
                Map.of(
                        "bootstrap.servers", servers,
                        "group.id", "peer-" + UUID.randomUUID(),
                        "enable.auto.commit", "false",
                        "auto.offset.reset", "earliest"),
                new StringDeserializer(),
                new ByteArrayDeserializer());
        ParallelConsumerOptions<String, byte[]> options = ParallelConsumerOptions.<String, byte[]>builder()
                .ordering(order)
                .maxConcurrency(workers)
                .consumer(consumer)
                .build();
        ParallelStreamProcessor<String, byte[]> processor = ParallelStreamProcessor.createEosStreamProcessor(options);
        processor.subscribe(List.of(topic));
        AtomicLong first = new AtomicLong(Long.MAX_VALUE);
        AtomicLong last = new AtomicLong(Long.MIN_VALUE);
        AtomicInteger handled = new AtomicInteger();
        CountDownLatch done = new CountDownLatch(1);
        processor.poll(context -> {
            if (first.get() == Long.MAX_VALUE) {
                first.accumulateAndGet(System.nanoTime(), Math::min);
            }
            pause(sleep);
            if (handled.incrementAndGet() == events) {
                last.accumulateAndGet(System.nanoTime(), Math::max);
                done.countDown();
            }
        });
        if (!done.await(5, TimeUnit.MINUTES)) {
            throw new IllegalStateException(handled.get() + " of " + events + " events were handled");
        }
        processor.closeDontDrainFirst(Duration.ofSeconds(5));
        return (last.get() - first.get()) / 1e9;
    }

    private static void pause(int sleep) {
        try {
            Thread.sleep(sleep);
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
        }
    }
}
