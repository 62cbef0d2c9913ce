import { useEffect } from "preact/hooks";
import { IconClose } from "./icons.tsx";

export interface Toast {
  readonly id: number;
  readonly text: string;
}

const SHOWN_MS = 10_000;

export function Toasts({ toasts, onClose }: { toasts: readonly Toast[]; onClose: (id: number) => void }) {
  return <div class="toasts" role="alert">{toasts.map((toast) => <ToastView key={toast.id} toast={toast} onClose={onClose} />)}</div>;
}

function ToastView({ toast, onClose }: { toast: Toast; onClose: (id: number) => void }) {
  useEffect(() => {
    const timer = setTimeout(() => onClose(toast.id), SHOWN_MS);
    return () => clearTimeout(timer);
  }, []);
  return (
    <div class="toast">
      <span>{toast.text}</span>
      <button type="button" class="quiet icon-button" onClick={() => onClose(toast.id)} aria-label="Dismiss"><IconClose /></button>
    </div>
  );
}
