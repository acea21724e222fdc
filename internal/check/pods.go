package check

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"fairlead.io/fairlead/internal/fleet"
)

// recent is how long a container that has ended and runs again is still worth a word.
const recent = 10 * time.Minute

// troubles are what keeps pods of ours from running: no node, no image, a crash loop.
func troubles(now time.Time, pods []corev1.Pod) []Finding {
	var found []Finding
	for i := range pods {
		p := &pods[i]
		if f, ok := unscheduled(p); ok {
			found = append(found, f)
		}
		for _, c := range p.Status.InitContainerStatuses {
			found = append(found, trouble(now, p, &c)...)
		}
		for _, c := range p.Status.ContainerStatuses {
			found = append(found, trouble(now, p, &c)...)
		}
	}
	return found
}

func unscheduled(p *corev1.Pod) (Finding, bool) {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return failed(fmt.Sprintf("make room, or let it in: `kubectl -n %s describe pod %s` says what each node lacks", p.Namespace, p.Name),
				"pod %s finds no node: %s", p.Name, c.Message), true
		}
	}
	return Finding{}, false
}

// trouble of one container. What it said when it ended last is the best that there is to know.
func trouble(now time.Time, p *corev1.Pod, c *corev1.ContainerStatus) []Finding {
	at := fmt.Sprintf("container %s of pod %s", c.Name, p.Name)
	if p.Spec.NodeName != "" {
		at += " on node " + p.Spec.NodeName
	}
	if w := c.State.Waiting; w != nil {
		switch w.Reason {
		case "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable":
			return []Finding{failed("does the image exist, and may the node pull it? See the values image.repository, image.tag and imagePullSecrets of the chart; an image that was set by hand gives way to `helm upgrade --force-conflicts`",
				"%s has no image %s: %s", at, c.Image, first(w.Message, w.Reason))}
		case "CreateContainerConfigError", "CreateContainerError", "RunContainerError":
			return []Finding{failed(fmt.Sprintf("`kubectl -n %s describe pod %s` shows the events", p.Namespace, p.Name),
				"%s cannot be started: %s: %s", at, w.Reason, w.Message)}
		}
	}
	last := c.LastTerminationState.Terminated
	if last == nil {
		last = c.State.Terminated
	}
	if last == nil || c.State.Running == nil && c.State.Waiting == nil && last.ExitCode == 0 {
		return nil
	}
	logs := fmt.Sprintf("`kubectl -n %s logs %s -c %s --previous` shows what it said", p.Namespace, p.Name, c.Name)
	if c.Ready {
		if now.Sub(last.FinishedAt.Time) > recent {
			return nil
		}
		return []Finding{warned(logs, "%s runs again, but has ended %d times, last %s ago with status %s", at, c.RestartCount,
			now.Sub(last.FinishedAt.Time).Round(time.Second), ending(last))}
	}
	if missing, ok := kernelLacks(last.Message); ok && c.Name == fleet.KeeperName {
		return []Finding{failed("use nodes with Linux 6.1 or newer and the features that are named, or keep Fairlead off this node: the value node.nodeSelector of the chart",
			"node %s: the kernel lacks what the keeper needs: %s", p.Spec.NodeName, missing)}
	}
	return []Finding{failed(logs,
		"%s has ended %d times, last with status %s", at, max(c.RestartCount, 1), ending(last))}
}

// kernelLacks reads what the keeper says when the preflight fails.
func kernelLacks(message string) (string, bool) {
	for _, sign := range []string{"this kernel lacks:", "preflight:"} {
		if _, missing, ok := strings.Cut(message, sign); ok {
			return oneLine(missing), true
		}
	}
	return "", false
}

// ending is how a container has ended, and what it said. What the kubelet alone knows, as OOMKilled, is there in any case.
func ending(t *corev1.ContainerStateTerminated) string {
	said := lastWords(t.Message)
	if said == "" || t.Reason == "" || t.Reason == "Error" || t.Reason == "Completed" {
		return fmt.Sprintf("%d: %s", t.ExitCode, first(said, t.Reason))
	}
	return fmt.Sprintf("%d (%s): %s", t.ExitCode, t.Reason, said)
}

// maxMessage bounds what is quoted of a message.
const maxMessage = 400

// lastWords are the last lines of a message that fit. A container that was killed has said nothing of it: then the message is
// the end of its log, which the kubelet has cut anywhere.
func lastWords(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	from, size := len(lines)-1, len(lines[len(lines)-1])
	for from > 0 && size+len(lines[from-1]) < maxMessage {
		from--
		size += len(lines[from])
	}
	return oneLine(strings.Join(lines[from:], "\n"))
}

// oneLine joins the lines of a message, and keeps it short.
func oneLine(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
	s = strings.TrimSpace(s)
	if len(s) > maxMessage {
		s = s[:maxMessage] + "..."
	}
	return s
}

func first(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return "no message"
}
